"""Paths in sources are taken as people type them; what can be read in two ways is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import drivers
from drivers import typed_path
from tests.real.image_bytes import encoded

NAMES = [
    "lot#5",
    "lot 5",
    "lot?5",
    "lot%5",
    "100%",
    "lot&x=1",
    "a=b",
    "ä",
    "日本",
    "#",
    "50%off",
    "x@y",
    "a;b",
    "a+b",
]


def folder_with_image(folder: Path) -> Path:
    folder.mkdir()
    (folder / "part.png").write_bytes(encoded("PNG"))
    return folder


@pytest.mark.parametrize("options", ["", "?fps=5", "?fps=5&loop=1"])
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_opened_as_it_is_typed(tmp_path: Path, name: str, options: str) -> None:
    folder = folder_with_image(tmp_path / name)
    for other in ("lot", "100", "50"):
        folder_with_image(tmp_path / other)
    camera = drivers.open(f"folder://{folder}{options}")
    camera.open()
    assert drivers.place(camera) == f"{folder} (1 images)"


@pytest.mark.parametrize(
    ("typed", "name"),
    [("lot%235", "lot#5"), ("lot%205", "lot 5"), ("lot%3F5", "lot?5"), ("%C3%A4", "ä"), ("%25", "%")],
)
def test_escapes_are_taken_too(tmp_path: Path, typed: str, name: str) -> None:
    folder = folder_with_image(tmp_path / name)
    camera = drivers.open(f"folder://{tmp_path}/{typed}?fps=5")
    camera.open()
    assert drivers.place(camera) == f"{folder} (1 images)"


def test_a_name_whose_bytes_are_no_utf_8_is_found(tmp_path: Path) -> None:
    folder = folder_with_image(tmp_path / "\udcff")
    camera = drivers.open(f"folder://{tmp_path}/%ff")
    camera.open()
    assert drivers.place(camera) == f"{folder} (1 images)"


@pytest.mark.parametrize(("typed", "other"), [("lot%235", "lot#5"), ("100%25", "100%"), ("a%20b", "a b")])
def test_two_folders_that_can_be_meant_are_refused_with_the_spelling_of_each(
    tmp_path: Path, typed: str, other: str
) -> None:
    literal, decoded = folder_with_image(tmp_path / typed), folder_with_image(tmp_path / other)
    with pytest.raises(drivers.CameraError, match="both exist: write") as refused:
        drivers.open(f"folder://{literal}").open()
    first, second = str(refused.value).partition("write ")[2].split(" for the ")[:2]
    for spelling, folder in ((first, literal), (second.partition(", ")[2], decoded)):
        camera = drivers.open(f"folder://{spelling}")
        camera.open()
        assert drivers.place(camera) == f"{folder} (1 images)"


def test_options_that_are_a_folders_name_are_refused_with_the_spelling(tmp_path: Path) -> None:
    for name in ("lot", "lot?fps=5"):
        folder_with_image(tmp_path / name)
    with pytest.raises(drivers.CameraError, match=r"write .*lot%3Ffps=5 for the first"):
        drivers.open(f"folder://{tmp_path}/lot?fps=5").open()
    camera = drivers.open(f"folder://{tmp_path}/lot%3Ffps=5")
    camera.open()
    assert drivers.place(camera) == f"{tmp_path}/lot?fps=5 (1 images)"


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("lot?y=z", "lot%3Fy=z"),
        ("lot?y=z&fps=3", "lot%3Fy=z&fps=3"),
        ("lot?fps=fast", "lot%3Ffps=fast"),
        ("lot?loop=true", "lot%3Floop=true"),
        ("lot?fps=1&fps=2", "lot%3Ffps=1&fps=2"),
        ("lot?a=1?b=2", "lot%3Fa=1%3Fb=2"),
        ("lot%20?y=z", "lot%2520%3Fy=z"),
    ],
)
@pytest.mark.parametrize("scheme", ["folder", "file"])
def test_a_name_that_ends_like_an_option_is_told_its_spelling(
    tmp_path: Path, scheme: str, name: str, spelling: str
) -> None:
    """The complaint would otherwise be that the option is unknown or has a bad value."""
    folder = folder_with_image(tmp_path / name)
    with pytest.raises(drivers.CameraError) as refused:
        drivers.open(f"{scheme}://{folder}").open()
    assert f"write {tmp_path}/{spelling} for the first" in str(refused.value)
    camera = drivers.open(f"folder://{tmp_path}/{spelling}")
    camera.open()
    assert drivers.place(camera) == f"{folder} (1 images)"


def test_a_name_that_is_typed_with_escapes_and_ends_like_an_option_is_told_its_spelling(
    tmp_path: Path,
) -> None:
    folder_with_image(tmp_path / "lot 5?y=z")
    with pytest.raises(drivers.CameraError, match=r"write .*lot 5%3Fy=z for the first"):
        drivers.open(f"folder://{tmp_path}/lot%205?y=z")


@pytest.mark.parametrize("rest", ["fps=3", "fps=3&loop=1"])
def test_a_name_that_ends_like_an_option_and_has_options_is_told_its_spelling(
    tmp_path: Path, rest: str
) -> None:
    folder = folder_with_image(tmp_path / "lot?y=z")
    with pytest.raises(drivers.CameraError) as refused:
        drivers.open(f"folder://{folder}&{rest}")
    assert f"write {tmp_path}/lot%3Fy=z?{rest} for the first" in str(refused.value)
    drivers.open(f"folder://{tmp_path}/lot%3Fy=z?{rest}").open()


def test_an_unknown_option_of_a_folder_is_still_named(tmp_path: Path) -> None:
    folder_with_image(tmp_path / "lot")
    with pytest.raises(drivers.CameraError, match="unknown option 'fsp'; did you mean 'fps'"):
        drivers.open(f"folder://{tmp_path}/lot?fsp=5")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("folder:///nowhere/lot#5?fps=5", "/nowhere/lot#5: there is no such folder"),
        ("folder:///nowhere/lot?5", "/nowhere/lot?5: there is no such folder"),
        ("folder:///nowhere/lot?fps", "/nowhere/lot?fps: there is no such folder"),
        ("file:///nowhere/a.mp4#x", "no such file: /nowhere/a.mp4#x"),
        ("file:///nowhere/a%00b.mp4", "no such file"),
        ("folder:///nowhere/a\0b", "NUL"),
    ],
)
def test_what_is_missing_is_named_in_full(source: str, words: str) -> None:
    with pytest.raises(drivers.CameraError) as refused:
        drivers.open(source).open()
    assert words in str(refused.value)


@pytest.mark.parametrize("source", ["gige://cam#1", "simulated://plate?fps=5#x", "simulated://plate#x"])
def test_a_hash_that_would_be_dropped_is_refused(source: str) -> None:
    with pytest.raises(drivers.CameraError, match="write %23"):
        drivers.open(source)


@pytest.mark.parametrize("name", ["clip #1.avi", "50%20.avi", "a?b.avi", "ä.avi"])
def test_a_clip_is_opened_as_it_is_typed(tmp_path: Path, name: str) -> None:
    plain = tmp_path / "plain.avi"
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    writer.write(np.full((48, 64, 3), 100, np.uint8))
    writer.release()
    plain.rename(tmp_path / name)
    camera = drivers.open(f"file://{tmp_path}/{name}?fps=100")
    camera.open()
    shot = camera.read(1.0)
    assert shot is not None
    assert shot.pixels is not None
    assert drivers.place(camera) == str(tmp_path / name)
    camera.close()


def test_a_link_shows_where_it_leads(tmp_path: Path) -> None:
    folder = folder_with_image(tmp_path / "lot 5")
    (tmp_path / "today").symlink_to(folder)
    camera = drivers.open(f"folder://{tmp_path}/today")
    camera.open()
    assert drivers.place(camera) == f"{folder} (1 images)"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_every_path_has_a_spelling_that_is_read_in_one_way(path: str) -> None:
    assert typed_path.decode(typed_path.spell("/" + path)) == "/" + path
    assert typed_path.split_options(typed_path.spell("/" + path)) == (typed_path.spell("/" + path), "")
