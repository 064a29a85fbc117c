"""Data sets as people have them are evaluated, and what can't be is named and left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monitor.curves import auroc
from monitor.evaluation import EvaluationError, evaluate_recipe
from tests.real.parts import part, random_recipe, save


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
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said["images"] == 8
    assert set(said["per_type"]) == {"good", "scratch", "stain"}
    assert [said["per_type"][kind]["images"] for kind in ("good", "scratch", "stain")] == [4, 3, 1]
    assert said["recipe_sha"] == recipe.sha
    assert said["ms_per_image"] > 0
    scorer = recipe.scorer(device="cpu")
    scores = {
        kind: np.array([r.score for r in scorer.score(shown)])
        for kind, shown in {
            "good": [part(number) for number in range(4)],
            "scratch": [part(50 + number, defect=True) for number in range(3)],
        }.items()
    }
    assert said["per_type"]["scratch"]["image_auroc"] == auroc(scores["good"], scores["scratch"])
    assert said["overkill"] == float((scores["good"] > scorer.threshold).mean())
    assert said["per_type"]["scratch"]["escape"] == float((scores["scratch"] <= scorer.threshold).mean())
    assert 0 <= said["pro"] <= 1
    assert 0 <= said["pixel_auroc"] <= 1
    assert "stain" in found.table()


def test_images_without_masks_are_named_and_count_for_the_rest(tmp_path: Path, dataset: Path) -> None:
    for mask in (dataset / "ground_truth/scratch").iterdir():
        mask.unlink()
    (dataset / "test/scratch/broken.png").write_text("no image")
    heard: list[str] = []
    found = evaluate_recipe(recipe=random_recipe(tmp_path / "r").folder, dataset=dataset, say=heard.append)
    assert sum("no mask" in line for line in heard) == 3
    assert sum("broken.png" in line for line in heard) == 1
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
