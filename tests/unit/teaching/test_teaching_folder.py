"""The folder of a recipe's images: no name leads out of it, and it has a bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.image_file import Image
from monitor.capture.collect import encode_image
from monitor.names import InvalidNameError
from monitor.settings import LineSettings, Settings, SnapshotSettings
from monitor.teaching import teaching_folder
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder

IMAGE = np.full((8, 8), 7, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> TeachingFolder:
    settings = Settings(line=LineSettings(data=tmp_path), snapshots=SnapshotSettings(min_free_gb=0))
    return TeachingFolder.of(settings, "plate")


def add(folder: TeachingFolder, name: str, image: Image) -> Path:
    folder.copy(ImageKind.GOOD, name, encode_image(image))
    return folder.find(ImageKind.GOOD, name)


def test_the_folder_on_disk_is_the_truth(folder: TeachingFolder) -> None:
    assert folder.list_names(ImageKind.GOOD) == []
    first = add(folder, "b.png", IMAGE)
    add(folder, "a.png", IMAGE)
    (first.parent / ".writing-1").touch()
    (first.parent / "notes.txt").touch()
    assert folder.list_names(ImageKind.GOOD) == ["a.png", "b.png"]
    first.unlink()
    assert folder.list_names(ImageKind.GOOD) == ["a.png"]
    folder.remove(ImageKind.GOOD, ["a.png"])
    assert folder.list_names(ImageKind.GOOD) == []


@pytest.mark.parametrize(
    "name", ["../job.json", "../good/a.png", ".hidden.png", "no.png", "a.txt", "", "link.png"]
)
def test_no_name_leads_out_of_the_folder(folder: TeachingFolder, name: str) -> None:
    place = add(folder, "a.png", IMAGE).parent
    (place / "a.txt").touch()
    (place / "link.png").symlink_to("a.png")
    with pytest.raises(TeachingError):
        folder.remove(ImageKind.GOOD, [name])
    assert folder.list_names(ImageKind.GOOD) == ["a.png"]


def test_a_recipe_has_a_name_that_stays_in_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidNameError):
        TeachingFolder.of(Settings(line=LineSettings(data=tmp_path)), "../snapshots")


def test_neither_the_number_of_pictures_nor_the_disk_is_without_a_bound(
    folder: TeachingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching_folder, "MOST_IMAGES", 2)
    for name in ("a.png", "b.png"):
        add(folder, name, IMAGE)
    with pytest.raises(TeachingError, match="2 images"):
        add(folder, "c.png", IMAGE)
    full = TeachingFolder(folder.root, 1e9)
    with pytest.raises(TeachingError, match="min_free_gb"):
        full.copy(ImageKind.DEFECT, "a.png", b"")


def test_a_good_part_that_turns_out_to_be_a_defect_is_a_good_part_no_longer(folder: TeachingFolder) -> None:
    twin = add(folder, "a.png", IMAGE).read_bytes()
    add(folder, "b.png", IMAGE + 1)
    assert folder.add_defect("c.png", twin) == 1
    assert folder.list_names(ImageKind.GOOD) == ["b.png"]
    assert folder.list_names(ImageKind.DEFECT) == ["c.png"]


def test_the_images_that_were_removed_last_come_back_and_earlier_ones_do_not(folder: TeachingFolder) -> None:
    names = ["a.png", "b.png", "c.png"]
    for value, name in enumerate(names):
        add(folder, name, IMAGE + value)
    folder.remove(ImageKind.GOOD, ["a.png"])
    folder.remove(ImageKind.GOOD, ["b.png", "c.png"])
    assert folder.list_names(ImageKind.GOOD) == []
    assert folder.list_removed()[ImageKind.GOOD] == ["b.png", "c.png"]
    assert folder.restore_removed() == 2
    assert folder.list_names(ImageKind.GOOD) == ["b.png", "c.png"]
    folder.remove(ImageKind.GOOD, ["b.png"])
    folder.discard_removed()
    assert folder.restore_removed() == 0


def test_what_was_removed_comes_back_also_on_a_full_disk_but_not_beyond_the_bound(
    folder: TeachingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder, "a.png", IMAGE)
    full = TeachingFolder(folder.root, 1e9)
    full.remove(ImageKind.GOOD, ["a.png"])
    assert full.restore_removed() == 1
    assert full.list_names(ImageKind.GOOD) == ["a.png"]
    folder.remove(ImageKind.GOOD, ["a.png"])
    add(folder, "b.png", IMAGE + 1)
    monkeypatch.setattr(teaching_folder, "MOST_IMAGES", 1)
    with pytest.raises(TeachingError, match="1 images"):
        folder.restore_removed()
    assert folder.list_removed()[ImageKind.GOOD] == ["a.png"]


def test_an_image_that_became_a_known_defect_does_not_come_back_as_a_good_part(
    folder: TeachingFolder,
) -> None:
    content = add(folder, "a.png", IMAGE).read_bytes()
    folder.remove(ImageKind.GOOD, ["a.png"])
    folder.add_defect("b.png", content)
    assert folder.restore_removed() == 0
    assert folder.list_names(ImageKind.GOOD) == []
