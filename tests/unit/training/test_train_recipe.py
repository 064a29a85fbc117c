"""Training repeats itself from the same seed, works with few images, and never makes a broken recipe."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from drivers import image_file
from drivers.image_file import Image
from monitor.images.preprocessing import Size
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import RecipeError, Tiles, make_tiles
from monitor.model.recipe_version import RecipeVersion
from monitor.names import InvalidNameError
from monitor.system.progress import SILENT
from monitor.teachers.architectures import BUNDLED, TeacherError
from monitor.training import loop
from monitor.training import train_recipe as train_recipe_module
from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
from monitor.training.examples import split_images
from monitor.training.known_defects import DefectsError
from monitor.training.parts import PartsError
from monitor.training.thresholds import CalibrationError
from monitor.training.train_recipe import TrainingError, TrainingRequest
from monitor.training.training_inputs import prepare_inputs
from tests.real.parts import good_parts, part, save, teacher_file
from tests.real.small_training import train


def test_ten_images_make_a_recipe_that_says_how_it_was_made(tmp_path: Path) -> None:
    lines: list[str] = []
    good = good_parts(tmp_path / "good", 10)
    recipe = train(tmp_path, good, lines.append, roi=(1, 2, 30, 40))
    loaded = RecipeVersion.load(tmp_path / "recipes" / "disc")
    assert loaded.sha == recipe.sha
    assert loaded.roi == (1, 2, 30, 40)
    assert loaded.document.teacher.name == "squeezenet1_1"
    training = loaded.document.training
    assert training is not None
    assert (training.images, training.train, training.select, training.calibrate) == (10, 4, 1, 5)
    assert (
        len(training.losses) == len(training.select_maps) == len(training.told_apart) == 3 == training.epochs
    )
    assert training.told_apart[training.best_epoch - 1] == max(training.told_apart)
    assert math.isfinite(Scorer(loaded, device="cpu", runtime="torch").threshold)
    assert any("94 more good parts" in line for line in lines)


def test_how_it_went_is_a_picture_in_the_recipe_and_two_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    recipe = train(tmp_path, good_parts(tmp_path / "good", 10), lines.append, epochs=7)
    training = recipe.document.training
    assert training is not None
    assert training.curve == "training.png"
    assert image_file.read(recipe.folder / training.curve).shape == (1045, 900, 3)
    assert sum(line.startswith("epoch 5: the mean anomaly map is at ") for line in lines) == 1


def test_a_picture_that_can_not_be_written_costs_a_line_not_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipes/disc/training.png").mkdir(parents=True)
    lines: list[str] = []
    recipe = train(tmp_path, good_parts(tmp_path / "good", 4), lines.append, epochs=1)
    assert RecipeVersion.load(recipe.folder).sha == recipe.sha
    assert sum(line.startswith("warning: ") and "training.png" in line for line in lines) == 1


@pytest.mark.usefixtures("two_threads")
def test_the_same_seed_gives_the_same_student(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 10)
    torch.manual_seed(1)
    first = train(tmp_path, folder, name="a", seed=3)
    torch.manual_seed(2)
    again = train(tmp_path, folder, name="b", seed=3)
    other = train(tmp_path, folder, name="c", seed=4)
    assert first.document.student == again.document.student != other.document.student
    assert first.document.calibration == again.document.calibration
    assert first.document.teacher == other.document.teacher


def test_training_leaves_torch_s_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(tmp_path, good_parts(tmp_path / "good", 4), epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_a_trained_student_sees_what_good_parts_never_had(made: RecipeVersion) -> None:
    scorer = Scorer(made, device="cpu", runtime="torch")
    good = [result.score for result in scorer.score([part(1000 + n) for n in range(10)])]
    bad = [result.score for result in scorer.score([part(2000 + n, defect=True) for n in range(10)])]
    assert np.median(bad) > 1.3 * np.median(good)
    assert min(bad) > np.median(good)


def test_a_resnet_learns_with_the_official_optimiser(tmp_path: Path) -> None:
    teacher_file(tmp_path / "teachers", "resnet18")
    recipe = train(tmp_path, good_parts(tmp_path / "good", 17), teacher="resnet18", epochs=4)
    training = recipe.document.training
    assert training is not None
    assert training.optimiser.startswith("SGD 0.4")
    assert training.losses[-1] < 0.8 * training.losses[0]


def test_features_that_are_kept_teach_the_same_as_features_seen_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = good_parts(tmp_path / "good", 10)
    kept = train(tmp_path, folder, name="kept").document.training
    monkeypatch.setattr(loop, "_FEATURE_BYTES", 0)
    anew = train(tmp_path, folder, name="anew").document.training
    assert kept is not None
    assert anew is not None
    assert kept.losses == pytest.approx(anew.losses, rel=1e-3)


def test_a_loss_that_goes_astray_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wild(student: torch.nn.Module, *, as_paper: bool) -> tuple[torch.optim.Optimizer, str]:
        return torch.optim.SGD(student.parameters(), lr=1e30), "wild"

    monkeypatch.setattr(loop, "_optimiser", wild)
    with pytest.raises(TrainingError, match="diverged in epoch"):
        train(tmp_path, good_parts(tmp_path / "good", 10))
    assert not list((tmp_path / "recipes").iterdir())


def test_files_that_are_no_images_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 6)
    (folder / "broken.jpg").write_bytes(b"no image")
    save(folder / "deeper" / "mono.PNG", part(7)[:, :, 0])
    lines: list[str] = []
    recipe = train(tmp_path, folder, lines.append, epochs=1)
    assert recipe.document.training is not None
    assert (recipe.document.training.images, recipe.document.training.skipped) == (7, 1)
    assert sum(line.startswith("skipped: ") and "broken.jpg" in line for line in lines) == 1


def test_odd_images_are_used_or_named_and_the_run_goes_on(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 6)
    save(folder / "huge.png", np.full((9000, 12000), 90, np.uint8))
    save(folder / "pixel.png", part(1)[:1, :1])
    save(folder / "sixteen-bits.tif", part(2).astype(np.uint16) << 8)
    turned = PIL.Image.fromarray(part(3, side=60))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    turned.convert("CMYK").save(folder / "cmyk.jpg")
    whole = (folder / "000.png").read_bytes()
    useless = {
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": (folder / "turned.jpg").read_bytes()[:-200],
        "corrupt.png": whole[:40] + bytes(400) + whole[440:],
        "empty.bmp": b"",
        "text.webp": b"no image",
    }
    for name, content in useless.items():
        (folder / name).write_bytes(content)
    lines: list[str] = []
    training = train(tmp_path, folder, lines.append, epochs=1).document.training
    assert training is not None
    assert (training.images, training.skipped) == (11, 5)
    skipped = [line for line in lines if line.startswith("skipped: ")]
    assert sorted(Path(line.split(": ")[1]).name for line in skipped) == sorted(useless)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": "Nice Name"}, InvalidNameError, "a-z, 0-9 and -"),
        ({"size": 5}, TrainingError, "size"),
        ({"epochs": 0}, TrainingError, "epochs"),
        ({"overkill": 0.0}, TrainingError, "overkill"),
        ({"overkill": 1e-17}, TrainingError, "at least 1e-9"),
        ({"images": Path("/nowhere")}, TrainingError, "/nowhere: No such file"),
        ({"device": "tpu"}, RecipeError, "tpu"),
        ({"part_of": "("}, PartsError, "not a regular expression"),
        ({"defects": Path("/nowhere")}, DefectsError, "/nowhere: No such file"),
    ],
)
def test_what_can_not_be_trained_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as refusal:
        train(tmp_path, good_parts(tmp_path / "good", 3), **changes)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "recipes").exists()


def test_what_would_be_refused_after_hours_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("no weights")
    (tmp_path / "good").mkdir()
    (tmp_path / "good/part.png").write_text("no image: reading it would fail")
    for changes in ({"teacher": "vgg"}, {"teacher_weights": tmp_path / "w.pth"}):
        with pytest.raises(TeacherError):
            train(tmp_path, tmp_path / "good", **changes)
    with pytest.raises(PartsError):
        train(tmp_path, tmp_path / "good", part_of="(")
    (tmp_path / "bad").mkdir()
    with pytest.raises(DefectsError, match="no images of bad parts"):
        train(tmp_path, tmp_path / "good", defects=tmp_path / "bad")


@pytest.mark.parametrize(
    ("contents", "message"),
    [((), "no images there"), ((b"a", b"b"), "none of the 2 images there can be read")],
)
def test_no_usable_image_is_one_clear_line(tmp_path: Path, contents: Sequence[bytes], message: str) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number}.png").write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        train(tmp_path, folder)


@pytest.mark.usefixtures("without_openvino")
def test_images_that_trained_a_recipe_can_not_calibrate_it(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 10)
    recipe = train(tmp_path, folder, epochs=1)
    lines: list[str] = []
    again = calibrate_recipe(CalibrationRequest(recipe=recipe.folder, images=folder), say=lines.append)
    assert any("left out: 5 images" in line for line in lines)
    old, new = recipe.document.calibration["torch-f32"], again.document.calibration["torch-f32"]
    assert new.scores == pytest.approx(old.scores, rel=1e-4)
    assert new.overkill == old.overkill
    (folder / "new").mkdir()
    for file in image_file.find(folder):
        if file.read_bytes() and file.name not in ("kept",):
            file.rename(folder / "new" / f"renamed-{file.name}")
    lines.clear()
    calibrate_recipe(CalibrationRequest(recipe=recipe.folder, images=folder), say=lines.append)
    assert any("left out: 5 images" in line for line in lines), "a renamed file is still the same image"


@pytest.mark.usefixtures("without_openvino")
def test_images_that_chose_the_student_guarantee_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = good_parts(tmp_path / "good", 10)
    recipe = train(tmp_path, folder, lines.append, epochs=1, overkill=0.4, as_paper=True)
    assert not recipe.document.evened, "the channels are not divided by their deviations, as in the paper"
    assert not recipe.document.calibration["torch-f32"].guaranteed
    assert any("these images selected the student" in line for line in lines)
    new = good_parts(tmp_path / "new", 12, first=50)
    fresh = calibrate_recipe(CalibrationRequest(recipe=recipe.folder, images=new), say=print)
    assert fresh.document.calibration["torch-f32"].guaranteed


@pytest.mark.usefixtures("without_openvino")
def test_a_copy_of_an_image_counts_once(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 6)
    for file in image_file.find(folder)[:3]:
        shutil.copy(file, file.with_name(f"copy-{file.name}"))
    lines: list[str] = []
    recipe = train(tmp_path, folder, lines.append, epochs=1)
    assert recipe.document.training is not None
    assert recipe.document.training.images == 6
    assert "left out: 3 images that are copies of others" in lines
    new = good_parts(tmp_path / "new", 2, first=50)
    shutil.copytree(new, tmp_path / "again")
    shutil.move(tmp_path / "again", new)
    calibrated = calibrate_recipe(CalibrationRequest(recipe=recipe.folder, images=new), say=lines.append)
    assert len(calibrated.document.calibration["torch-f32"].scores) == 2
    assert "left out: 2 images that are copies of others" in lines


def test_where_no_recipe_can_be_written_no_image_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipes").write_text("a file in the folder's place")
    folder = tmp_path / "good"
    folder.mkdir()
    (folder / "part.png").write_text("no image: reading it would fail")
    with pytest.raises(TrainingError, match="recipes can't be written there"):
        train(tmp_path, folder)


def test_a_recipe_that_is_there_is_not_replaced_without_a_word(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 3)
    train(tmp_path, folder, epochs=1)
    lines: list[str] = []
    train(tmp_path, folder, lines.append, epochs=1, seed=1)
    assert any("recipe disc is there already" in line for line in lines)


def test_only_images_that_trained_it_are_refused(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 3)
    recipe = train(tmp_path, folder, epochs=1)
    by_use = split_images(range(3), 0)
    image_file.find(folder)[by_use.calibrate[0]].unlink()
    with pytest.raises(CalibrationError, match="all of them trained this recipe"):
        calibrate_recipe(CalibrationRequest(recipe=recipe.folder, images=folder), say=print)


@pytest.mark.slow
def test_a_recipe_in_tiles_finds_a_small_defect_on_a_wide_frame_where_it_is(tmp_path: Path) -> None:
    """The frame shows six parts, and a tile has the size of one part."""

    def frame(first: int, defect: int = -1) -> Image:
        return np.hstack([part(first + n, side=96, defect=n == defect) for n in range(6)])

    for number in range(6):
        save(tmp_path / "good" / f"{number}.png", frame(10 * number))
    lines: list[str] = []
    tiles = make_tiles((96, 96))
    recipe = train(
        tmp_path,
        tmp_path / "good",
        lines.append,
        teacher=BUNDLED,
        size=(96, 576),
        tiles=tiles,
        epochs=8,
        int8=True,
    )
    assert "each is cut into 7 tiles of 96x96" in lines
    loaded = RecipeVersion.load(recipe.folder)
    assert loaded.size == (96, 576)
    assert loaded.document.tiles == Tiles(rows=96, columns=96, overlap=12)
    assert loaded.document.training is not None
    assert loaded.document.training.images == 6, "the number of images, not of tiles"
    assert len(loaded.document.calibration["openvino-int8"].scores) == 3, "an image has one score"
    shown = [frame(500), frame(600, defect=1), frame(700, defect=4)]
    for precision in ("f32", "int8"):
        good, second, fifth = Scorer(loaded, device="cpu", precision=precision).score(shown)
        assert good.anomaly_map.shape == (96, 576)
        assert min(second.score, fifth.score) > 1.5 * good.score
        for result, at in ((second, 1), (fifth, 4)):
            assert int(result.anomaly_map.max(axis=0).argmax()) // 96 == at


@pytest.mark.parametrize(
    ("size", "tile", "why"),
    [
        (16, None, "size is 32 to 8192 pixels, not 16x16"),
        ((300, 4096), None, "4096x300 at once is too large: use tiles of at most 2048 pixels"),
        ((9000, 9000), (512, 512), "size is 32 to 8192 pixels"),
        (256, (512, 512), "tiles of 512x512 are larger than the 256x256"),
    ],
)
def test_a_size_that_cannot_be_is_named(
    tmp_path: Path, size: int | Size, tile: Size | None, why: str
) -> None:
    folder = good_parts(tmp_path / "good", 4)
    with pytest.raises(TrainingError, match=why):
        train(tmp_path, folder, size=size, tiles=make_tiles(tile) if tile else None)


def test_another_split_of_the_same_images_does_not_continue_an_interrupted_training(tmp_path: Path) -> None:
    """Another rate of overkill lets other images calibrate: they must not have trained before."""
    folder = good_parts(tmp_path / "good", 30)
    requests = [
        TrainingRequest(
            name="disc",
            recipes=tmp_path / "recipes",
            images=folder,
            teacher="squeezenet1_1",
            teacher_weights=None,
            teachers=teacher_file(tmp_path / "teachers").parent,
            size=64,
            epochs=3,
            device="cpu",
            overkill=overkill,
        )
        for overkill in (0.01, 0.15, 0.01)
    ]
    found = [
        train_recipe_module._fingerprint(request, prepare_inputs(request, print, SILENT))
        for request in requests
    ]
    assert found[0] == found[2] != found[1]
