"""Without a size from the user, training finds one from the images and keeps it when it trains anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from drivers import image_file
from drivers.image_file import Image
from monitor.images.preprocessing import Size
from monitor.model.recipe_json import Training, make_tiles
from monitor.model.recipe_version import RecipeVersion
from monitor.training import automatic_size
from monitor.training.automatic_size import LOOKED_AT, AutomaticSize, find_size
from monitor.training.image_size import ChosenSize
from monitor.training.loop import TrainingError
from tests.real.parts import draft_recipe, good_parts, save
from tests.real.small_training import train

TRAINING = Training(
    utc="2026-01-01T00:00:00Z",
    images=10,
    train=7,
    select=1,
    calibrate=2,
    skipped=0,
    epochs=1,
    best_epoch=1,
    seed=0,
    as_paper=False,
    optimiser="",
    device="cpu",
    torch="",
    seconds=1,
    losses=(),
    select_maps=(),
    automatic_size=True,
)


def images(folder: Path, *shapes: Size) -> list[Path]:
    """Grey images of these shapes."""
    for number, shape in enumerate(shapes):
        save(folder / f"{number:03d}.png", np.full(shape, 128, np.uint8))
    return image_file.find(folder)


def recipe_with(folder: Path, size: Size, **training: Any) -> Path:
    """A recipe of that size; `training` are fields of the record of its training."""
    made = draft_recipe(folder, size=size)
    record = msgspec.structs.replace(TRAINING, **training)
    replace(made, document=msgspec.structs.replace(made.document, training=record)).commit()
    return folder


def find(files: list[Path], recipe: Path, wish: AutomaticSize | None = None, **changes: Any) -> ChosenSize:
    wishes = {"architecture": "resnet18", "tiles": None, "say": print, **changes}
    found = find_size(files, recipe, wish or AutomaticSize(), **wishes)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("count", [3, LOOKED_AT, LOOKED_AT + 1, 39, 50])
def test_the_shapes_of_a_few_evenly_spread_images_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    files = images(tmp_path / "good", *[(90, 90)] * count)
    read: list[int] = []
    whole = image_file.read

    def counted(file: Path) -> Image:
        read.append(files.index(file))
        return whole(file)

    monkeypatch.setattr(automatic_size.image_file, "read", counted)
    assert find(files, tmp_path / "none").size == (176, 176)
    assert len(read) == len(set(read)) == min(count, LOOKED_AT)
    assert read[0] == 0
    assert max(np.diff([*read, count])) <= 1 + count / LOOKED_AT


def test_files_that_are_no_images_are_passed_over_without_a_line(tmp_path: Path) -> None:
    files = images(tmp_path / "good", *[(460, 1130)] * 3)
    for number in range(60):
        files.insert(0, tmp_path / "good" / f"damaged{number}.png")
        files[0].write_bytes(b"no image")
    lines: list[str] = []
    assert find(files, tmp_path / "none", say=lines.append).size == (208, 512)
    assert not [line for line in lines if "damaged" in line]
    assert [line.split()[0] for line in lines] == ["size", "a"]
    nothing = find_size(
        files[:60], tmp_path, AutomaticSize(), architecture="resnet18", tiles=None, say=lines.append
    )
    assert nothing is None
    assert len(lines) == 2


def test_images_of_other_shapes_cost_a_line(tmp_path: Path) -> None:
    lines: list[str] = []
    find(images(tmp_path / "good", (90, 90), (90, 90), (90, 200)), tmp_path / "none", say=lines.append)
    assert "1 of 3 are squashed" in lines[-1]


def test_a_size_that_was_found_is_kept_and_one_line_says_so(tmp_path: Path) -> None:
    files = images(tmp_path / "good", (460, 1130))
    lines: list[str] = []
    kept = find(files, recipe_with(tmp_path / "disc", (96, 208)), say=lines.append)
    assert kept.size == (96, 208)
    assert "size 208x96 (width x height), as in the recipe that is there; --size sets another" in lines


@pytest.mark.parametrize(
    ("size", "training"), [((96, 208), {"automatic_size": False}), ((64, 64), {"automatic_size": True})]
)
def test_a_size_that_the_user_set_or_that_does_not_fit_is_not_kept(
    tmp_path: Path, size: Size, training: dict[str, Any]
) -> None:
    files = images(tmp_path / "good", (460, 1130))
    assert find(files, recipe_with(tmp_path / "disc", size, **training)).size == (208, 512)


def test_a_size_is_kept_as_long_as_the_same_defect_matters(tmp_path: Path) -> None:
    files = images(tmp_path / "good", (460, 1130))
    recipe = recipe_with(tmp_path / "disc", (96, 208), smallest_defect=40.0)
    for asked in (None, 40):
        found = find_size(
            files, recipe, AutomaticSize(asked), architecture="resnet18", tiles=None, say=lambda line: None
        )
        assert found is not None
        assert found[0].size == (96, 208)
        assert found[1].smallest_defect == 40
    assert find(files, recipe, AutomaticSize(20)).size == (208, 512)
    assert find(files, recipe, tiles=make_tiles((128, 128))).size == (208, 512)


def test_a_damaged_recipe_s_size_is_not_kept(tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "disc", (96, 208))
    (recipe / "recipe.json").write_text("damaged")
    assert find(images(tmp_path / "good", (460, 1130)), recipe).size == (208, 512)


def test_tiles_that_are_larger_than_the_size_are_refused_with_the_fix(tmp_path: Path) -> None:
    files = images(tmp_path / "good", (460, 1130))
    with pytest.raises(TrainingError, match=r"tiles of 256x256 are larger .* or give --size"):
        find(files, tmp_path / "none", tiles=make_tiles((256, 256)))


def test_a_recipe_records_that_its_size_was_found_and_for_which_defect(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 4)
    lines: list[str] = []
    train(tmp_path, folder, lines.append, epochs=1, automatic_size=AutomaticSize(smallest_defect=5))
    made = RecipeVersion.load(tmp_path / "recipes/disc")
    assert made.size == (160, 160)
    training = made.document.training
    assert training is not None
    assert (training.automatic_size, training.smallest_defect) == (True, 5)
    assert sum(line.startswith("size 160x160 ") for line in lines) == 1
    train(tmp_path, folder, lines.append, epochs=1, seed=1, automatic_size=AutomaticSize())
    assert sum("as in the recipe that is there" in line for line in lines) == 1
    train(tmp_path, folder, lines.append, epochs=1)
    given = RecipeVersion.load(tmp_path / "recipes/disc").document
    assert given.size == 64
    assert given.training is not None
    assert not given.training.automatic_size


def test_folders_without_a_readable_image_are_refused_as_with_a_size(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good/part.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match="none of the 1 images there can be read"):
        train(tmp_path, tmp_path / "good", automatic_size=AutomaticSize())
