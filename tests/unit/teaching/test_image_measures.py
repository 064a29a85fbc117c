"""All images of a folder are measured once, whatever is shown beside it and whatever is in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from monitor.capture.collect import encode_image
from monitor.teaching.image_measures import ImageMeasures
from monitor.teaching.odd_images import Oddity
from monitor.teaching.teaching_folder import ImageKind, TeachingFolder
from tests.real.parts import part


def make_folder(root: Path) -> TeachingFolder:
    folder = TeachingFolder(root, 0.0)
    for index in range(4):
        folder.copy(ImageKind.GOOD, f"{index}.png", encode_image(part(index)))
    return folder


def await_oddities(measures: ImageMeasures, folder: TeachingFolder) -> Mapping[str, frozenset[Oddity]]:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if (
            found := measures.find_oddities(folder, ImageKind.GOOD, folder.list_names(ImageKind.GOOD))
        ) is not None:
            return found
        time.sleep(0.001)
    pytest.fail("the images were not measured")


def test_two_pages_that_are_shown_in_turn_both_get_their_marks(tmp_path: Path) -> None:
    measures = ImageMeasures()
    one, other = (make_folder(tmp_path / name) for name in ("disc", "plate"))
    await_oddities(measures, one)
    await_oddities(measures, other)
    for folder in (one, other):
        assert measures.find_oddities(folder, ImageKind.GOOD, folder.list_names(ImageKind.GOOD)) is not None


def test_a_file_that_can_not_be_read_is_marked_and_the_others_are_measured(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "plate")
    folder.copy(ImageKind.GOOD, "2.png", b"no image")
    found = await_oddities(ImageMeasures(), folder)
    assert [name for name, oddities in found.items() if oddities] == ["2.png"]
    assert found["2.png"] == {Oddity.UNREADABLE}
