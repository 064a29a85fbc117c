"""Frames become images: each once, as many as were asked for, until somebody stops it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivers.image_file import Image, read
from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.ring import FinalVerdict
from monitor.teaching import frame_collection
from monitor.teaching.frame_collection import (
    Collections,
    CollectionState,
    LeftOut,
    find_reason_to_leave_out,
)
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder
from monitor.verdict import Reason, Verdict


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_collection, "_LOOK_S", 0.001)
    monkeypatch.setattr(frame_collection, "_LEAST_PAUSE_S", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> TeachingFolder:
    return TeachingFolder(tmp_path / "plate", 0.0)


PASSED = FinalVerdict(Verdict.PASS, Reason.NONE, True, False, 1, 1)


class Line:
    """A line whose camera shows each frame so often; a frame's grey value is its number."""

    def __init__(
        self, repeats: int = 3, verdict: Callable[[int], FinalVerdict | None] = lambda number: PASSED
    ) -> None:
        self._shown, self._repeats, self._verdict = itertools.count(repeats), repeats, verdict
        self.recipe = "plate"
        self.copied: list[int] = []

    def newest_number(self, camera: str) -> int | None:
        return next(self._shown) // self._repeats

    def newest_frame(self, camera: str) -> tuple[Frame, Image] | None:
        number = next(self._shown) // self._repeats
        self.copied.append(number)
        frame = Frame(number, 0, 0, 0, 0, number * 10**9, 0, number, 0, PixelFormat.Mono8, 8, 8)
        return frame, np.full((8, 8), number % 256, np.uint8)

    def final_verdict(self, camera: str, number: int) -> FinalVerdict | None:
        return self._verdict(number)

    def judging_recipe(self, camera: str) -> str:
        return self.recipe


class DarkLine(Line):
    def newest_frame(self, camera: str) -> tuple[Frame, Image] | None:
        return None


def await_end(collections: Collections) -> frame_collection.Collection:
    until = time.monotonic() + 5
    assert collections.last is not None
    while collections.last.state is CollectionState.WORKING and time.monotonic() < until:
        time.sleep(0.005)
    return collections.last


def test_each_frame_is_saved_once_and_lossless(folder: TeachingFolder) -> None:
    collections = Collections(Line())
    collections.start("plate", "top", 6, folder)
    assert await_end(collections).state is CollectionState.COMPLETE
    names = folder.list_names(ImageKind.GOOD)
    numbers = [int(name.removesuffix(".png").rpartition("_")[2]) for name in names]
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    assert [int(read(folder.find(ImageKind.GOOD, name))[0, 0]) for name in names] == numbers


def test_pixels_are_copied_only_of_frames_that_are_new(folder: TeachingFolder) -> None:
    line = Line(repeats=20)
    collections = Collections(line)
    collections.start("plate", "top", 3, folder)
    await_end(collections)
    assert len(line.copied) == 4, "the first look, and three frames"


def test_a_frame_waits_for_its_verdict(folder: TeachingFolder) -> None:
    asked: list[int] = []

    def later(number: int) -> FinalVerdict | None:
        asked.append(number)
        return PASSED if asked.count(number) > 1 else None

    collections = Collections(Line(1, later))
    collections.start("plate", "top", 3, folder)
    await_end(collections)
    assert len(asked) == 6
    assert len(folder.list_names(ImageKind.GOOD)) == 3


@pytest.mark.parametrize(
    ("change", "is_own", "reason"),
    [
        ({}, True, None),
        ({"challenge": 1, "verdict": Verdict.REJECT}, False, LeftOut.CHALLENGE),
        ({"reason": Reason.NO_PART}, False, LeftOut.EMPTY),
        ({"verdict": Verdict.REJECT}, True, LeftOut.REJECTED),
        ({"verdict": Verdict.REJECT}, False, None),
        ({"verdict": Verdict.UNINSPECTED, "reason": Reason.NO_RECIPE}, True, None),
    ],
)
def test_only_frames_that_may_show_good_parts_teach(
    change: dict[str, object], is_own: bool, reason: LeftOut | None
) -> None:
    closed = replace(PASSED, **change)  # type: ignore[arg-type]
    assert find_reason_to_leave_out(closed, is_own=is_own) is reason


@pytest.mark.parametrize(("with_rejected", "left_out"), [(False, 1), (True, 0)])
def test_rejected_parts_are_left_out_and_counted_unless_a_person_asks_for_them(
    folder: TeachingFolder, with_rejected: bool, left_out: int
) -> None:
    verdicts = iter((replace(PASSED, verdict=Verdict.REJECT), *[PASSED] * 9))
    collections = Collections(Line(1, lambda number: next(verdicts)))
    collections.start("plate", "top", 3, folder, with_rejected=with_rejected)
    assert await_end(collections).left_out[LeftOut.REJECTED] == left_out
    assert len(folder.list_names(ImageKind.GOOD)) == 3


def test_an_unexpected_error_ends_the_collection_with_words(
    folder: TeachingFolder, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(number: int) -> FinalVerdict | None:
        raise MemoryError

    collections = Collections(Line(1, fail))
    collections.start("plate", "top", 3, folder)
    ended = await_end(collections)
    assert (ended.state, "log" in ended.problem) == (CollectionState.FAILED, True)
    assert "MemoryError" in caplog.text


def test_a_collection_can_be_stopped_and_another_one_waits_for_its_end(folder: TeachingFolder) -> None:
    collections = Collections(Line())
    collections.start("plate", "top", 2000, folder)
    with pytest.raises(TeachingError, match="wait until that ends"):
        collections.start("disc", "top", 1, folder)
    collections.stop()
    assert await_end(collections).state is CollectionState.STOPPED
    collections.start("plate", "top", 1, folder)
    assert await_end(collections).state is CollectionState.COMPLETE


def test_without_a_picture_or_with_a_full_disk_it_says_why(folder: TeachingFolder) -> None:
    with pytest.raises(TeachingError, match="start the line"):
        Collections(DarkLine()).start("plate", "top", 1, folder)
    with pytest.raises(TeachingError, match="1 to 2000"):
        Collections(Line()).start("plate", "top", 2001, folder)
    with pytest.raises(TeachingError, match="min_free_gb"):
        Collections(Line()).start("plate", "top", 1, TeachingFolder(folder.root, 1e9))
    with pytest.raises(TeachingError, match="collect fewer"):
        folder.check_space(10**18)


def test_a_disk_that_fails_meanwhile_ends_it_with_one_line(folder: TeachingFolder) -> None:
    collections = Collections(Line())
    folder.root.mkdir()
    (folder.root / "good").touch()
    collections.start("plate", "top", 3, folder)
    ended = await_end(collections)
    assert ended.state is CollectionState.FAILED
    assert "good" in ended.problem


def test_bad_parts_that_are_shown_become_known_defects_also_where_the_recipe_rejects_them(
    folder: TeachingFolder,
) -> None:
    verdicts = itertools.cycle([replace(PASSED, verdict=Verdict.REJECT), PASSED])
    collections = Collections(Line(1, lambda number: next(verdicts)))
    collections.start("plate", "top", 4, folder, kind=ImageKind.DEFECT)
    assert await_end(collections).saved == 4
    assert len(folder.list_names(ImageKind.DEFECT)) == 4
    assert folder.list_names(ImageKind.GOOD) == []


def test_no_image_is_a_good_part_and_a_known_defect(folder: TeachingFolder) -> None:
    class Repeating(Line):
        """A source of four images, shown again and again."""

        def newest_frame(self, camera: str) -> tuple[Frame, Image] | None:
            found = super().newest_frame(camera)
            return found and (found[0], np.full((8, 8), found[0].number // 2 % 4, np.uint8))

    collections = Collections(Repeating(1))
    collections.start("plate", "top", 8, folder)
    await_end(collections)
    collections.start("plate", "top", 2, folder, kind=ImageKind.DEFECT)
    assert await_end(collections).moved == 4
    assert len(folder.list_names(ImageKind.GOOD)) == 4
    collections.start("plate", "top", 4, folder)
    assert await_end(collections).left_out[LeftOut.KNOWN_DEFECT] > 0
    marks = [{folder.find(kind, name).read_bytes() for name in folder.list_names(kind)} for kind in ImageKind]
    assert not marks[0] & marks[1]
