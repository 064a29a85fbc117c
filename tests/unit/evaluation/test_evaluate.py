"""Data sets are evaluated by type and category; unusable images and masks are named and left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from monitor.evaluation import paper_results
from monitor.evaluation.auroc_pro import auroc
from monitor.evaluation.evaluate import EvaluationError, evaluate, evaluate_recipe
from monitor.evaluation.results import Results
from monitor.inference.scorer import Scorer
from monitor.model.image_mark import content_mark
from monitor.model.recipe_json import OperatingPoint, Training
from monitor.model.recipe_version import RecipeVersion
from tests.real.parts import part, random_recipe, save

pytestmark = pytest.mark.usefixtures("without_openvino")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "disc"
    for number in range(4):
        save(root / "test/good" / f"{number}.png", part(number))
    mask = np.zeros((80, 80), np.uint8)
    mask[30:50, 30:50] = 255
    for number in range(3):
        save(root / "test/scratch" / f"{number:03d}.png", part(50 + number, defect=True))
        save(root / "ground_truth/scratch" / f"{number:03d}_mask.png", mask)
    save(root / "test/stain" / "x.jpg", part(70, defect=True))
    save(root / "ground_truth/stain" / "x.png", mask)
    return root


def test_a_data_set_is_evaluated_by_type(tmp_path: Path, dataset: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    found = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=print)
    figures = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert figures["images"] == 8
    assert set(figures["per_type"]) == {"good", "scratch", "stain"}
    assert [figures["per_type"][kind]["images"] for kind in ("good", "scratch", "stain")] == [4, 3, 1]
    assert figures["recipe_sha"] == recipe.sha
    assert figures["ms_per_image"] > 0
    scorer = Scorer(recipe, device="cpu")
    scores = {
        kind: np.array([r.score for r in scorer.score(shown)])
        for kind, shown in {
            "good": [part(number) for number in range(4)],
            "scratch": [part(50 + number, defect=True) for number in range(3)],
        }.items()
    }
    assert figures["per_type"]["scratch"]["image_auroc"] == auroc(scores["good"], scores["scratch"])
    assert figures["overkill"] == float((scores["good"] > scorer.threshold).mean())
    assert figures["per_type"]["scratch"]["escape"] == float((scores["scratch"] <= scorer.threshold).mean())
    assert 0 <= figures["pro"] <= 1
    assert 0 <= figures["pixel_auroc"] <= 1
    assert "stain" in found.table()


def test_a_type_whose_name_is_no_text_is_evaluated_like_any_other(tmp_path: Path, dataset: Path) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    for side in ("test", "ground_truth"):
        (dataset / side / "stain").rename(dataset / side / os.fsdecode(b"st\xffin"))
    found = evaluate_recipe(recipe=recipe, dataset=dataset, say=print)
    assert found.per_type["st\ufffdin"].pro is not None
    for output in (found.table(), json.dumps(found.as_dict(), ensure_ascii=False)):
        assert "st\ufffdin" in output.encode().decode()
    for category in (b"c\xff", b"d\xff"):
        shutil.copytree(dataset, tmp_path / "set" / os.fsdecode(category))
    several = evaluate(recipe=recipe, dataset=tmp_path / "set", say=print)
    assert set(several.categories) == {"c\ufffd", "d\ufffd"}
    paper_results.format_table(several).encode()


def test_images_without_masks_are_named_and_count_for_the_rest(tmp_path: Path, dataset: Path) -> None:
    for mask in (dataset / "ground_truth/scratch").iterdir():
        mask.unlink()
    (dataset / "test/scratch/broken.png").write_text("no image")
    lines: list[str] = []
    found = evaluate_recipe(recipe=random_recipe(tmp_path / "r").folder, dataset=dataset, say=lines.append)
    (missing,) = (line for line in lines if "no mask" in line)
    assert missing.startswith("no mask: 3 of 4 images with a defect, the first is ")
    assert "000.png: left out of pixel_auroc and pro" in missing
    assert sum("broken.png" in line for line in lines) == 1
    assert found.per_type["scratch"].pro is None
    assert found.per_type["scratch"].image_auroc is not None
    assert found.per_type["stain"].pro is not None


def test_what_is_no_data_set_is_refused_in_one_line(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    with pytest.raises(EvaluationError, match="test/good, test/<type>"):
        evaluate_recipe(recipe=recipe, dataset=tmp_path / "nowhere", say=print)
    save(tmp_path / "flat/test/x.png", part(1))
    with pytest.raises(EvaluationError, match="no usable images"):
        evaluate_recipe(recipe=recipe, dataset=tmp_path / "flat", say=print)


def test_good_images_alone_give_the_overkill(tmp_path: Path) -> None:
    save(tmp_path / "d/test/good/1.png", part(1))
    found = evaluate_recipe(recipe=random_recipe(tmp_path / "r").folder, dataset=tmp_path / "d", say=print)
    assert found.overall.overkill is not None
    assert (found.overall.image_auroc, found.overall.pro, found.overall.escape) == (None, None, None)


def test_defects_alone_have_no_image_auroc_but_an_escape_rate(tmp_path: Path, dataset: Path) -> None:
    shutil.rmtree(dataset / "test/good")
    found = evaluate_recipe(recipe=random_recipe(tmp_path / "r").folder, dataset=dataset, say=print)
    assert (found.overall.images, found.overall.image_auroc, found.overall.overkill) == (4, None, None)
    assert found.overall.escape is not None
    assert found.overall.pixel_auroc is not None
    assert "good" not in found.per_type


@pytest.mark.parametrize(
    ("spoil", "remark"),
    [
        (lambda mask: mask.write_bytes(b"none"), "no mask: .*000_mask.png: not a readable image"),
        (lambda mask: save(mask, np.zeros((80, 80), np.uint8)), "empty mask: .*000_mask.png"),
        (
            lambda mask: save(mask, np.full((40, 80), 255, np.uint8)),
            "mask of another shape: .*000_mask.png: 80x40, its image 80x80",
        ),
    ],
)
def test_a_mask_that_is_no_use_is_named_and_its_image_counts_for_the_rest(
    tmp_path: Path, dataset: Path, spoil: Callable[[Path], object], remark: str
) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    whole = evaluate_recipe(recipe=recipe, dataset=dataset, say=print)
    spoil(dataset / "ground_truth/scratch/000_mask.png")
    lines: list[str] = []
    found = evaluate_recipe(recipe=recipe, dataset=dataset, say=lines.append)
    assert re.search(remark, "\n".join(lines))
    assert all("left out of pixel_auroc and pro" in line for line in lines[-1:])
    assert found.overall.images == whole.overall.images
    assert found.overall.image_auroc == whole.overall.image_auroc
    assert found.per_type["scratch"].pixel_auroc != whole.per_type["scratch"].pixel_auroc
    assert found.per_type["stain"] == whole.per_type["stain"]


def test_a_mask_at_another_scale_is_as_good(tmp_path: Path, dataset: Path) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    whole = evaluate_recipe(recipe=recipe, dataset=dataset, say=print)
    for file in (dataset / "ground_truth").rglob("*.png"):
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        save(file, np.kron(mask, np.ones((2, 2), np.uint8)))
    lines: list[str] = []
    found = evaluate_recipe(recipe=recipe, dataset=dataset, say=lines.append)
    assert lines == []
    assert found.overall.pixel_auroc == pytest.approx(whole.overall.pixel_auroc, abs=0.02)


def test_masks_of_other_values_give_the_same_figures_and_doubtful_ones_are_named(
    tmp_path: Path, dataset: Path
) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    whole = evaluate_recipe(recipe=recipe, dataset=dataset, say=print)
    for value, file in zip((1, 2, 128, 77), sorted((dataset / "ground_truth").rglob("*.png")), strict=True):
        save(file, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) // 255 * value)
    lines: list[str] = []
    found = evaluate_recipe(recipe=recipe, dataset=dataset, say=lines.append)
    assert lines == []
    assert (found.overall.pixel_auroc, found.overall.pro) == (whole.overall.pixel_auroc, whole.overall.pro)
    labels = np.zeros((80, 80), np.uint8)
    labels[30:50, 30:50], labels[60:70, 30:50] = 1, 2
    save(dataset / "ground_truth/scratch/000_mask.png", labels)
    (dataset / "ground_truth/stain/x.png").rename(dataset / "ground_truth/stain/x.bmp")
    evaluate_recipe(recipe=recipe, dataset=dataset, say=lines.append)
    assert re.search("no mask: .*000_mask.png: it has 3 values", lines[0])
    assert lines[1].startswith("no mask: 2 of 4 images with a defect")
    assert re.fullmatch("not read: 1 of .* no PNG, the first is .*x.bmp: save masks as PNG", lines[2])
    assert len(lines) == 3


def teach(recipe: RecipeVersion, *files: Path) -> RecipeVersion:
    """The recipe, as if these files had trained it, and with two operating points."""
    training = Training(
        utc="2026-01-01T00:00:00.000Z",
        images=len(files),
        train=len(files),
        select=0,
        calibrate=0,
        skipped=0,
        epochs=1,
        best_epoch=1,
        seed=0,
        as_paper=False,
        optimiser="none",
        device="cpu",
        torch="2",
        seconds=1.0,
        losses=(1.0,),
        select_maps=(1.0,),
        seen=tuple(content_mark(file.read_bytes()) for file in files),
    )
    points = (
        OperatingPoint(overkill=0.01, threshold=100.0, guarantee=0.02),
        OperatingPoint(overkill=0.05, threshold=1e-6),
    )
    document = msgspec.structs.replace(recipe.document, training=training, operating_points=points)
    return replace(recipe, document=document, sha="").commit()


def test_overkill_and_escape_are_measured_at_each_of_the_recipes_thresholds(
    tmp_path: Path, dataset: Path
) -> None:
    recipe = teach(random_recipe(tmp_path / "r"))
    found = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=print)
    high, low = json.loads(json.dumps(found.as_dict(), allow_nan=False))["operating_points"]
    assert (high["requested"], high["threshold"], high["guarantee"]) == (0.01, 100.0, 0.02)
    assert (high["overkill"], high["escape"], high["per_type"]["stain"]["escape"]) == (0.0, 1.0, 1.0)
    assert (low["guarantee"], low["overkill"], low["escape"]) == (None, 1.0, 0.0)
    assert (low["overkill_high"], low["escape_low"]) == (1.0, 0.0)
    assert "escape (missed defect)" in found.table()
    assert random_recipe(tmp_path / "without").document.operating_points == ()


def test_good_images_that_trained_the_recipe_are_left_out_with_one_line(
    tmp_path: Path, dataset: Path
) -> None:
    good = dataset / "test/good"
    shutil.copy(good / "1.png", good / "copy.png")
    recipe = teach(random_recipe(tmp_path / "r"), good / "0.png", good / "1.png")
    lines: list[str] = []
    found = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=lines.append)
    assert found.per_type["good"].images == 2
    (line,) = lines
    assert line.startswith("left out: 3 good images that the recipe was trained or calibrated on")
    recipe = teach(recipe, *good.iterdir())
    lines.clear()
    found = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=lines.append)
    assert (found.overall.overkill, found.overall.images) == (None, 4)
    (line,) = lines
    assert "no good image is left, so overkill is not known" in line
    for kind in ("scratch", "stain"):
        shutil.rmtree(dataset / "test" / kind)
    with pytest.raises(EvaluationError, match=r"on all usable images \(5\): give images"):
        evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=print)


def test_a_defect_that_trained_the_recipe_still_counts_and_is_named(tmp_path: Path, dataset: Path) -> None:
    recipe = teach(random_recipe(tmp_path / "r"), dataset / "test/scratch/001.png")
    lines: list[str] = []
    found = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=lines.append)
    assert found.per_type["scratch"].images == 3
    (line,) = lines
    assert line.startswith(
        "warning: the recipe was trained or calibrated on 1 images of defects as good parts"
    )


def test_good_images_that_set_the_threshold_are_left_out_too(tmp_path: Path, dataset: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    marks = (content_mark((dataset / "test/good/2.png").read_bytes()),)
    document = msgspec.structs.replace(recipe.document, calibrated_on=marks)
    replace(recipe, document=document, sha="").commit()
    lines: list[str] = []
    found = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=lines.append)
    assert found.per_type["good"].images == 3
    assert lines[0].startswith("left out: 1 good images")


def test_a_folder_of_good_and_defects_gives_what_the_papers_layout_gives(
    tmp_path: Path, dataset: Path
) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    whole = evaluate_recipe(recipe=recipe, dataset=dataset, say=print)
    plain = shutil.copytree(dataset / "test", tmp_path / "plain")
    lines: list[str] = []
    without_masks = evaluate_recipe(recipe=recipe, dataset=plain, say=lines.append)
    assert lines == ["no masks in ground_truth: pixel_auroc and pro are not known"]
    assert without_masks.overall.image_auroc == whole.overall.image_auroc
    assert without_masks.overall.pro is None
    shutil.copytree(dataset / "ground_truth", plain / "ground_truth")
    found = evaluate_recipe(recipe=recipe, dataset=plain, say=print)
    assert (found.overall, found.per_type) == (whole.overall, whole.per_type)


@pytest.fixture
def categories(tmp_path: Path, dataset: Path) -> Path:
    root = tmp_path / "set"
    shutil.copytree(dataset, root / "metal_nut")
    shutil.copytree(dataset, root / "bottle")
    shutil.rmtree(root / "bottle/test/stain")
    return root


def without_times(results: Results) -> dict[str, object]:
    return {
        name: {key: value for key, value in found.as_dict().items() if key != "ms_per_image"}
        for name, found in results.categories.items()
    }


def test_an_archive_in_any_order_gives_what_its_folder_gives(tmp_path: Path, categories: Path) -> None:
    for number, name in enumerate(("mvtec-bottle", "mvtec-metal-nut")):
        random_recipe(tmp_path / "recipes" / name, seed=number)
    recipe = tmp_path / "recipes/mvtec"
    of_folder = evaluate(recipe=recipe, dataset=categories, say=print)
    files = [file for file in categories.rglob("*") if file.is_file()]
    archive = tmp_path / "set.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for place in np.random.default_rng(0).permutation(len(files)):
            tar.add(files[place], files[place].relative_to(tmp_path))
    of_archive = evaluate(recipe=recipe, dataset=archive, say=print)
    assert without_times(of_archive) == without_times(of_folder)
    assert {found.recipe for found in of_archive.categories.values()} == {"mvtec-bottle", "mvtec-metal-nut"}
    assert of_archive.failed == {}
    assert of_archive.single is None


def test_a_recipe_of_that_very_name_serves_every_category(tmp_path: Path, categories: Path) -> None:
    recipe = random_recipe(tmp_path / "recipes/mvtec")
    random_recipe(tmp_path / "recipes/mvtec-bottle", seed=4)
    found = evaluate(recipe=recipe.folder, dataset=categories, say=print)
    assert {evaluation.recipe for evaluation in found.categories.values()} == {"mvtec"}
    with pytest.raises(EvaluationError, match="more than one category"):
        evaluate_recipe(recipe=recipe.folder, dataset=categories, say=print)


def test_a_category_without_a_recipe_is_named_with_the_command_that_makes_it(
    tmp_path: Path, categories: Path
) -> None:
    random_recipe(tmp_path / "recipes/mvtec-bottle")
    found = evaluate(recipe=tmp_path / "recipes/mvtec", dataset=categories, say=print)
    assert set(found.categories) == {"bottle"}
    assert found.single is None
    assert found.failed == {
        "metal_nut": "metal_nut: no recipe 'mvtec-metal-nut': "
        "line-monitor train mvtec-metal-nut --images metal_nut/train/good"
    }
    with pytest.raises(EvaluationError, match="no recipe 'other' and none 'other-<category>'"):
        evaluate(recipe=tmp_path / "recipes/other", dataset=categories, say=print)


def test_a_category_that_cannot_be_evaluated_does_not_stop_the_others(
    tmp_path: Path, categories: Path
) -> None:
    recipe = random_recipe(tmp_path / "r")
    for file in (categories / "bottle/test").rglob("*.png"):
        file.write_bytes(b"none")
    lines: list[str] = []
    found = evaluate(recipe=recipe.folder, dataset=categories, say=lines.append)
    assert set(found.categories) == {"metal_nut"}
    assert "no usable images" in found.failed["bottle"]
    assert sum("skipped" in line for line in lines) == 7


def test_a_damaged_archive_is_one_line(tmp_path: Path, categories: Path) -> None:
    archive = tmp_path / "set.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(categories, "set")
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(EvaluationError, match="damaged") as refused:
        evaluate(recipe=random_recipe(tmp_path / "r").folder, dataset=archive, say=print)
    assert "\n" not in str(refused.value)
