"""Which files of a folder are images: one rule for cameras, training, scoring, calibration and evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

import drivers
from drivers import image_file
from drivers.image_name import is_image, is_image_path
from monitor.evaluation.dataset import list_entries
from tests.real.image_bytes import encoded

LEFTOVERS = [
    "._part.png",
    ".part.png",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "part.png.part",
    "part.png.tmp",
    "part.png.filepart",
    "part.png.crdownload",
    "part.png~",
    "~$part.png",
    ".part.png.Xy12Za",
    ".smbdelete0001.png",
    "part.png:Zone.Identifier",
    "png",
    "__MACOSX/part.png",
    "__macosx/good/part.png",
    "@eaDir/part.png",
    "#recycle/part.png",
    "$RECYCLE.BIN/part.png",
    "System Volume Information/part.png",
    "lost+found/part.png",
    ".Trashes/part.png",
    ".AppleDouble/part.png",
]
PARTS = [
    "part.png",
    "a.PNG",
    "b.jpeg",
    "c.tif",
    "d.TIFF",
    "e.webp",
    "f.bmp",
    "#5.png",
    "x.part.png",
    "ä ö.jpg",
]


@pytest.mark.parametrize("path", LEFTOVERS)
def test_what_systems_and_programs_leave_is_no_part(path: str) -> None:
    assert not is_image_path(path.split("/"))


@pytest.mark.parametrize("name", PARTS)
def test_an_image_may_have_any_other_name(name: str) -> None:
    assert is_image(name)
    assert is_image_path(["lot #5", "100 %", name])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `good` with images and all leftovers."""
    for name in [*PARTS, *LEFTOVERS]:
        file = tmp_path / "set" / "good" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded("PNG"))
    (tmp_path / "set" / "good" / "no part.png").mkdir()
    return tmp_path / "set"


def test_training_scoring_and_calibration_take_the_parts_alone(folder: Path) -> None:
    assert [file.name for file in image_file.find(folder)] == sorted(PARTS)


def test_the_folder_camera_takes_the_parts_alone(folder: Path) -> None:
    camera = drivers.open(f"folder://{folder}/good?fps=1000")
    camera.open()
    for number in range(len(PARTS)):
        shot = camera.read(1.0)
        assert shot is not None
        assert (shot.device_frame, shot.fault) == (number, None)
    with pytest.raises(drivers.SourceEnded):
        camera.read(1.0)


def test_evaluation_takes_the_parts_alone(folder: Path) -> None:
    assert [entry.path.name.name for entry in list_entries(folder)] == sorted(PARTS)
    (folder / "test").mkdir()
    (folder / "good").rename(folder / "test" / "good")
    leftover = folder / "__MACOSX" / "test" / "good" / "part.png"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(encoded("PNG"))
    assert [entry.path.name.name for entry in list_entries(folder)] == sorted(PARTS)
    assert [entry.path.category for entry in list_entries(folder)] == [()] * len(PARTS)
