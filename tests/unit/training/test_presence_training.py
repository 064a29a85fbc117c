"""`train` and `calibrate` with images of the empty place make a gate that finds parts, or print one line."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from drivers.image_file import Image
from monitor.cli import main
from monitor.commands.score import score_files
from monitor.evaluation.evaluate import evaluate_recipe
from monitor.images.preprocessing import resize_image
from monitor.inference.presence import PresenceGate
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import FILE, Presence, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
from monitor.training.presence_training import PresenceError, compare_with_parts, learn_gate
from tests.real.parts import (
    draft_recipe,
    empty_pictures,
    empty_place,
    good_parts,
    part,
    random_recipe,
    save,
)
from tests.real.small_training import train

pytestmark = pytest.mark.usefixtures("without_openvino")

SIZE = 64


def small(image: Image) -> Image:
    return resize_image(image, (SIZE, SIZE))


def gate(tmp_path: Path) -> Presence:
    return learn_gate(empty_pictures(tmp_path / "gate", 12), small, say=print)


def gated_recipe(folder: Path, tmp_path: Path) -> RecipeVersion:
    return draft_recipe(folder).with_presence(gate(tmp_path)).commit()


def test_training_with_empty_pictures_makes_a_gate_that_was_compared_with_every_good_image(
    tmp_path: Path,
) -> None:
    lines: list[str] = []
    empty = empty_pictures(tmp_path / "empty", 8)
    train(tmp_path, good_parts(tmp_path / "good", 10), lines.append, empty=empty)
    presence = RecipeVersion.load(tmp_path / "recipes/disc").document.presence
    assert presence is not None
    assert (presence.images, presence.parts) == (8, 10)
    assert presence.nearest is not None
    assert presence.nearest > 2
    assert (presence.rows, presence.columns, presence.colour) == (80, 80, True)
    assert any("presence gate from 8 empty pictures" in line for line in lines)


def test_a_gate_that_training_anew_would_lose_is_named(tmp_path: Path) -> None:
    gated_recipe(tmp_path / "recipes/disc", tmp_path)
    good, lines = good_parts(tmp_path / "good", 10), list[str]()
    train(tmp_path, good, lines.append)
    assert sum("the new one will have none: give --empty" in line for line in lines) == 1
    again: list[str] = []
    train(tmp_path, good, again.append)
    assert not any("--empty" in line for line in again)


def test_without_empty_pictures_there_is_no_gate(tmp_path: Path) -> None:
    recipe = train(tmp_path, good_parts(tmp_path / "good", 10))
    assert recipe.document.presence is None
    scorer = Scorer(recipe, device="cpu")
    image = empty_place(1)
    assert scorer.part_image(image) is image


def test_a_good_part_that_looks_empty_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    good = good_parts(tmp_path / "good", 10)
    for number in (3, 5):
        save(good / f"{number:03d}.png", empty_place(500 + number))
    with pytest.raises(PresenceError) as refusal:
        train(tmp_path, good, empty=empty_pictures(tmp_path / "empty", 8))
    assert str(refusal.value).startswith(
        f"2 of 10 images of good parts look empty, or nearly so: {good}/003.png"
    )
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "recipes/disc").exists()


def test_a_part_that_is_hardly_to_be_seen_is_refused_too(tmp_path: Path) -> None:
    """The part differs from the empty place, but not by the required margin."""
    presence = gate(tmp_path)
    faint = empty_place(77).astype(np.int16)
    faint[20:60, 20:60] += int(presence.limit * np.mean(presence.deviations))
    images = {"a.png": part(1), "b.png": faint.astype(np.uint8)}
    pictures = [(tmp_path / name, image.shape, small(image)) for name, image in images.items()]
    assert 1 < PresenceGate(presence).departure(pictures[1][2]) < 2
    with pytest.raises(PresenceError, match="1 of 2 images of good parts look empty"):
        compare_with_parts(presence, pictures, "look")


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (part(1), "unlike all other images"),
        (empty_place(1, side=90), "90x90 in colour, those before it 80x80 in colour"),
        (empty_place(1)[:, :, 0], "80x80 in mono"),
    ],
)
def test_an_empty_picture_that_does_not_belong_is_named(tmp_path: Path, odd: Image, why: str) -> None:
    file = save(empty_pictures(tmp_path / "empty", 12) / "strange.png", odd)
    with pytest.raises(PresenceError, match=why) as refusal:
        learn_gate(file.parent, small, say=print)
    assert str(refusal.value).startswith(str(file))


def test_copies_of_one_picture_are_one(tmp_path: Path) -> None:
    folder = empty_pictures(tmp_path / "empty", 4)
    for number in range(10):
        save(folder / f"copy{number}.png", empty_place(0))
    with pytest.raises(PresenceError, match="4 different images of the empty place: at least 5"):
        learn_gate(folder, small, say=print)


@pytest.mark.parametrize("image", [part(1)[:, :, 0].copy(), part(1, side=90), part(1)[30:50, 30:50]])
def test_parts_that_the_gate_will_never_be_asked_about_vouch_for_nothing(
    tmp_path: Path, image: Image
) -> None:
    """A mono image or one of another size: a part cut close departs far more than one in the whole frame."""
    both = [(tmp_path / name, one.shape, small(one)) for name, one in (("a.png", part(2)), ("b.png", image))]
    with pytest.raises(
        PresenceError, match=r"b\.png: .* can't be compared; collect both from the same camera"
    ):
        compare_with_parts(gate(tmp_path), both, "look")


def test_parts_among_the_empty_pictures_are_found_when_no_good_image_is_given(tmp_path: Path) -> None:
    """Two parts hide each other from the comparison of one image with all others."""
    recipe = random_recipe(tmp_path / "r").folder
    folder = empty_pictures(tmp_path / "empty", 12)
    for number in range(2):
        save(folder / f"p{number}.png", part(number))
    with pytest.raises(PresenceError, match="grey levels would pass for empty"):
        calibrate_recipe(CalibrationRequest(recipe=recipe, images=None, empty=folder), say=print)
    with pytest.raises(PresenceError, match="5 of 5 images of good parts look empty"):
        calibrate_recipe(
            CalibrationRequest(recipe=recipe, images=good_parts(tmp_path / "good", 5), empty=folder),
            say=print,
        )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    random_recipe(tmp_path / "data/recipes/disc")
    good_parts(tmp_path / "good", 12)
    empty_pictures(tmp_path / "empty", 12)
    file = tmp_path / "line.toml"
    file.write_text('[line]\ndata = "data"\n')
    return file


def run(config: Path, *arguments: str) -> int:
    return main(["--config", str(config), "calibrate", "disc", *arguments])


def test_calibrating_with_empty_pictures_alone_changes_the_gate_alone(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent / "data/recipes/disc"
    before = RecipeVersion.load(folder)
    assert run(config, "--empty", str(config.parent / "empty")) == 0
    assert "never compared with parts" in capsys.readouterr().err
    gated = RecipeVersion.load(folder)
    assert gated.document.presence is not None
    assert gated.document.presence.parts == 0
    assert gated.with_changes(presence=None, lineage=None).document == before.document
    assert gated.sha != before.sha, "a changeover takes over the new gate"

    assert run(config, "--images", str(config.parent / "good")) == 0
    assert "the nearest of 12 good parts" in capsys.readouterr().err
    compared = RecipeVersion.load(folder).document.presence
    assert compared is not None
    assert (compared.means, compared.parts) == (gated.document.presence.means, 12)

    assert run(config, "--no-empty") == 0
    assert "no presence gate any more" in capsys.readouterr().err
    assert RecipeVersion.load(folder).document.presence is None


def test_good_images_that_an_old_gate_takes_for_empty_calibrate_nothing(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(config, "--empty", str(config.parent / "empty"))
    good, recipe = config.parent / "good", config.parent / "data/recipes/disc" / FILE
    save(good / "007.png", empty_place(300))
    before = recipe.read_bytes()
    capsys.readouterr()
    assert run(config, "--images", str(good)) == 1
    printed = capsys.readouterr().err
    assert f"1 of 12 images of good parts look empty, or nearly so: {good}/007.png:" in printed
    assert "--no-empty" in printed
    assert recipe.read_bytes() == before
    assert run(config, "--images", str(good), "--no-empty") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--extrapolate", "--no-empty"],
        ["--part-of", "x", "--overkill", "0.1"],
        ["--empty", "x", "--no-empty"],
    ],
)
def test_wrong_usage_is_told(config: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(config, *arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--empty", str(config.parent / "nowhere")) == 1
    printed = capsys.readouterr().err.splitlines()
    assert printed == [f"line-monitor: {config.parent}/nowhere: No such file or directory"]


@pytest.mark.parametrize(
    "damage",
    [
        {"means": [1.0] * 7},
        {"deviations": [1.0]},
        {"means": [], "deviations": []},
        {"limit": 0},
        {"deviations": [-1.0] * 3072},
        {"colour": False},
    ],
)
def test_a_damaged_gate_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    recipe = gated_recipe(tmp_path / "r", tmp_path)
    file = recipe.folder / FILE
    tree = json.loads(file.read_text())
    tree["presence"].update(damage)
    file.write_text(json.dumps(tree))
    with pytest.raises(RecipeError, match=r"presence|not a recipe"):
        RecipeVersion.load(recipe.folder)


def test_a_part_s_score_does_not_depend_on_the_gate(tmp_path: Path) -> None:
    gated = Scorer(gated_recipe(tmp_path / "r", tmp_path), device="cpu", runtime="torch")
    free = Scorer(random_recipe(tmp_path / "free"), device="cpu", runtime="torch")
    for number in range(3):
        seen = gated.part_image(part(number, defect=True))
        assert seen is not None
        assert gated.score([seen])[0].score == free.score([part(number, defect=True)])[0].score
    assert gated.part_image(empty_place(99)) is None


def test_score_says_which_images_show_no_part(tmp_path: Path) -> None:
    recipe = gated_recipe(tmp_path / "r", tmp_path)
    files = [save(tmp_path / "a.png", empty_place(50)), save(tmp_path / "b.png", part(1))]
    lines: list[str] = []
    assert score_files(recipe.folder, files, tmp_path / "maps", lines.append)
    results = [json.loads(line) for line in lines]
    assert results[0] == {
        "image": str(files[0]),
        "score": None,
        "threshold": 0.5,
        "verdict": "pass",
        "reason": "no_part",
    }
    assert set(results[1]) == {"image", "score", "threshold", "verdict", "heatmap"}
    assert len(list((tmp_path / "maps").iterdir())) == 1


def test_a_defect_that_the_gate_waves_through_has_escaped(tmp_path: Path) -> None:
    """The line never computes its score."""
    root = tmp_path / "disc"
    for number in range(3):
        save(root / "test/good" / f"{number}.png", part(number))
        save(root / "test/scratch" / f"{number}.png", part(50 + number, defect=True))
    save(root / "test/gone" / "0.png", empty_place(60))
    recipe = gated_recipe(tmp_path / "r", tmp_path)
    # Every score is above this threshold: without the gate nothing would escape and nothing would pass.
    calibration = msgspec.structs.replace(recipe.document.calibration["torch-f32"], threshold=1e-9)
    recipe = recipe.with_calibration({"torch-f32": calibration}).commit()
    lines: list[str] = []
    found = evaluate_recipe(recipe=recipe.folder, dataset=root, say=lines.append)
    assert (found.overall.overkill, found.overall.escape) == (1.0, 0.25)
    assert found.per_type["gone"].escape == 1.0
    assert found.per_type["scratch"].escape == 0.0
    assert found.per_type["gone"].image_auroc is not None
    assert found.as_dict()["no_part"] == 1
    assert "1 passed as no_part" in found.table()
    assert sum("gone/0.png: the presence gate passes it" in line for line in lines) == 1
