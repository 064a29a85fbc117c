"""The folder of a recipe's images: no name leads out of it, and it has a bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor.names import InvalidNameError
from monitor.settings import LineSettings, Settings, SnapshotSettings
from monitor.teaching import teaching_folder
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder

IMAGE = np.full((8, 8), 7, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> TeachingFolder:
    settings = Settings(line=LineSettings(data=tmp_path), snapshots=SnapshotSettings(min_free_gb=0))
    return TeachingFolder.of(settings, "plate")


def test_the_folder_on_disk_is_the_truth(folder: TeachingFolder) -> None:
    assert folder.list_names(ImageKind.GOOD) == []
    first = folder.add(ImageKind.GOOD, "b.png", IMAGE)
    folder.add(ImageKind.GOOD, "a.png", IMAGE)
    (first.parent / ".writing-1").touch()
    (first.parent / "notes.txt").touch()
    assert folder.list_names(ImageKind.GOOD) == ["a.png", "b.png"]
    first.unlink()
    assert folder.list_names(ImageKind.GOOD) == ["a.png"]
    folder.remove(ImageKind.GOOD, "a.png")
    assert folder.list_names(ImageKind.GOOD) == []


@pytest.mark.parametrize(
    "name", ["../job.json", "../good/a.png", ".hidden.png", "no.png", "a.txt", "", "link.png"]
)
def test_no_name_leads_out_of_the_folder(folder: TeachingFolder, name: str) -> None:
    place = folder.add(ImageKind.GOOD, "a.png", IMAGE).parent
    (place / "a.txt").touch()
    (place / "link.png").symlink_to("a.png")
    with pytest.raises(TeachingError):
        folder.remove(ImageKind.GOOD, name)
    assert folder.list_names(ImageKind.GOOD) == ["a.png"]


def test_a_recipe_has_a_name_that_stays_in_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidNameError):
        TeachingFolder.of(Settings(line=LineSettings(data=tmp_path)), "../snapshots")


def test_neither_the_number_of_pictures_nor_the_disk_is_without_a_bound(
    folder: TeachingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching_folder, "MOST_IMAGES", 2)
    for name in ("a.png", "b.png"):
        folder.add(ImageKind.GOOD, name, IMAGE)
    with pytest.raises(TeachingError, match="2 images"):
        folder.add(ImageKind.GOOD, "c.png", IMAGE)
    full = TeachingFolder(folder.root, 1e9)
    with pytest.raises(TeachingError, match="min_free_gb"):
        full.copy(ImageKind.DEFECT, "a.png", b"")


def test_a_good_part_that_turns_out_to_be_a_defect_is_a_good_part_no_longer(folder: TeachingFolder) -> None:
    twin = folder.add(ImageKind.GOOD, "a.png", IMAGE).read_bytes()
    folder.add(ImageKind.GOOD, "b.png", IMAGE + 1)
    assert folder.add_defect("c.png", twin) == 1
    assert folder.list_names(ImageKind.GOOD) == ["b.png"]
    assert folder.list_names(ImageKind.DEFECT) == ["c.png"]
