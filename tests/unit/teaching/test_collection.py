"""Frames become pictures: each once, as many as were asked for, until somebody stops it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivers.image_file import Image, read
from monitor.line_state.frame import Frame, PixelFormat
from monitor.teaching import collection
from monitor.teaching.collection import Collections, CollectionState
from monitor.teaching.teaching_folder import PictureKind, TeachingError, TeachingFolder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "_LOOK_S", 0.001)
    monkeypatch.setattr(collection, "_LEAST_PAUSE_S", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> TeachingFolder:
    return TeachingFolder(tmp_path / "plate", 0.0)


def camera(repeats: int = 3) -> Callable[[str], tuple[Frame, Image]]:
    """A camera that shows each frame so often; a frame's grey value is its number."""
    shown = itertools.count(repeats)

    def newest(name: str) -> tuple[Frame, Image]:
        number = next(shown) // repeats
        frame = Frame(number, 0, 0, 0, 0, number * 10**9, 0, number, 0, PixelFormat.Mono8, 8, 8)
        return frame, np.full((8, 8), number % 256, np.uint8)

    return newest


def no_challenge(camera: str, number: int) -> bool | None:
    return False


def await_end(collections: Collections) -> collection.Collection:
    until = time.monotonic() + 5
    assert collections.last is not None
    while collections.last.state is CollectionState.WORKING and time.monotonic() < until:
        time.sleep(0.005)
    return collections.last


def test_each_frame_is_saved_once_and_lossless(folder: TeachingFolder) -> None:
    collections = Collections(camera(), no_challenge)
    collections.start("plate", "top", 6, folder)
    assert await_end(collections).state is CollectionState.COMPLETE
    names = folder.list_names(PictureKind.GOOD)
    numbers = [int(name.removesuffix(".png").rpartition("_")[2]) for name in names]
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    assert [int(read(folder.find(PictureKind.GOOD, name))[0, 0]) for name in names] == numbers


def test_a_frame_waits_for_its_verdict_and_challenge_parts_teach_nothing(folder: TeachingFolder) -> None:
    asked: list[int] = []

    def every_second(name: str, number: int) -> bool | None:
        asked.append(number)
        return number % 2 == 0 if asked.count(number) > 1 else None

    collections = Collections(camera(repeats=1), every_second)
    collections.start("plate", "top", 5, folder)
    assert await_end(collections).state is CollectionState.COMPLETE
    numbers = [int(name[-10:-4]) for name in folder.list_names(PictureKind.GOOD)]
    assert len(numbers) == 5
    assert all(number % 2 for number in numbers)


def test_a_collection_can_be_stopped_and_another_one_waits_for_its_end(folder: TeachingFolder) -> None:
    collections = Collections(camera(), no_challenge)
    collections.start("plate", "top", 2000, folder)
    with pytest.raises(TeachingError, match="wait until that ends"):
        collections.start("disc", "top", 1, folder)
    collections.stop()
    assert await_end(collections).state is CollectionState.STOPPED
    collections.start("plate", "top", 1, folder)
    assert await_end(collections).state is CollectionState.COMPLETE


def test_without_a_picture_or_with_a_full_disk_it_says_why(folder: TeachingFolder) -> None:
    with pytest.raises(TeachingError, match="start the line"):
        Collections(lambda name: None, no_challenge).start("plate", "top", 1, folder)
    with pytest.raises(TeachingError, match="1 to 2000"):
        Collections(camera(), no_challenge).start("plate", "top", 2001, folder)
    with pytest.raises(TeachingError, match="min_free_gb"):
        Collections(camera(), no_challenge).start("plate", "top", 1, TeachingFolder(folder.root, 1e9))


def test_a_disk_that_fails_meanwhile_ends_it_with_one_line(folder: TeachingFolder) -> None:
    collections = Collections(camera(), no_challenge)
    folder.root.mkdir()
    (folder.root / "good").touch()
    collections.start("plate", "top", 3, folder)
    ended = await_end(collections)
    assert ended.state is CollectionState.FAILED
    assert "good" in ended.problem
