"""The line view reads the rings and the board and can't change them; a picture never mixes two frames."""

from __future__ import annotations

import gc
import re
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.line_state.board import Board, CameraState, Field, WorkerState
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import Ring
from monitor.line_state.worker_process import PUBLISH, SCORING, capture_name, worker_names
from monitor.review.line_view import LineView
from monitor.settings import Settings


def test_the_newest_frame_is_shown_also_after_its_slot_was_released(
    tmp_path: Path, ring: Ring, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    view = LineView(settings, tmp_path)
    assert view.newest_frame("top") is None
    for number in range(1, 4):
        put_frame(number, 10 * number)
    found = view.newest_frame("top")
    assert found is not None
    assert found[0].number == 3
    assert (found[1] == 30).all()
    assert ring.unreleased_frames() == []


def test_a_picture_is_never_half_of_two_frames(
    tmp_path: Path, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    view = LineView(settings, tmp_path)
    ended = threading.Event()

    def capture() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            put_frame(number, number % 251)
            time.sleep(0.001)

    thread = threading.Thread(target=capture)
    thread.start()
    try:
        seen = 0
        began = time.monotonic()
        # At least 1 s, and longer where the processor is busy with other tests.
        while (took := time.monotonic() - began) < 1 or (seen <= 20 and took < 10):
            found = view.newest_frame("top")
            if found is not None:
                seen += 1
                assert (found[1] == found[0].number % 251).all()
    finally:
        ended.set()
        thread.join()
    assert seen > 20


def test_a_ring_that_is_mapped_for_reading_can_not_be_written(
    tmp_path: Path, put_frame: Callable[[int, int], None]
) -> None:
    put_frame(1, 7)
    reader = Ring(tmp_path, "top", writable=False)
    frame = reader.frame(1)
    assert frame is not None
    with pytest.raises(TypeError):
        reader.release(frame)
    with pytest.raises(ValueError, match="read-only"):
        reader.pixels(frame)[0, 0] = 1
    reader.close()


def test_the_status_is_what_the_board_says_and_stopped_without_one(
    tmp_path: Path, ring: Ring, settings: Settings
) -> None:
    view = LineView(settings, tmp_path)
    off = view.status()
    assert not off.running
    assert [camera.state for camera in off.cameras] == ["stopped"]
    workers = worker_names(settings)
    Board.create(tmp_path / "board", workers)
    board = Board(tmp_path / "board", workers)
    later = time.monotonic_ns() + 10**11
    for name in (PUBLISH, capture_name("top")):
        board.write(name, Field.STATE, WorkerState.RUNNING)
        board.write(name, Field.ALIVE_UNTIL_NS, later)
        board.write(name, Field.EVER_RAN, 1)
    board.write(PUBLISH, Field.READY, 1)
    board.write(capture_name("top"), Field.CAMERA_STATE, CameraState.UP)
    board.write_trouble(PUBLISH, "the broker is away")
    status = view.status()
    assert status.running
    assert status.ready
    assert status.cameras[0].state == "up"
    assert status.problems == (f"{PUBLISH}: the broker is away",)
    board.write(SCORING, Field.STATE, WorkerState.RUNNING)
    board.write(SCORING, Field.ALIVE_UNTIL_NS, later)
    board.write(SCORING, Field.WITHOUT_TIME, 1)
    assert view.status().problems[1:] == ("view top: no time left for it, since parts come first",)
    board.write(capture_name("top"), Field.ALIVE_UNTIL_NS, 0)
    board.write(PUBLISH, Field.ALIVE_UNTIL_NS, 0)
    status = view.status()
    assert not status.ready
    assert status.cameras[0].state == "lost"
    board.close()


@pytest.mark.parametrize("latch", [latch for latch in Latch if latch is not Latch.NONE])
def test_who_looks_at_a_line_that_waits_for_a_reset_reads_what_to_look_for(
    tmp_path: Path, settings: Settings, latch: Latch
) -> None:
    Board.create(tmp_path / "board", worker_names(settings))
    board = Board(tmp_path / "board", worker_names(settings))
    board.write(PUBLISH, Field.LATCH, latch)
    (problem,) = LineView(settings, tmp_path).status().problems
    assert re.search("look (for|at) .*, then reset the line", problem)
    board.write(PUBLISH, Field.LATCH, Latch.NONE)
    assert LineView(settings, tmp_path).status().problems == ()
    board.close()


def test_a_line_that_was_started_anew_is_seen_at_once(
    tmp_path: Path, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    put_frame(1, 1)
    view = LineView(settings, tmp_path)
    assert view.newest_frame("top") is not None
    Ring.create(tmp_path, "top", uuid.uuid4())
    assert view.newest_frame("top") is None


def test_looking_keeps_nothing_open(
    tmp_path: Path, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    put_frame(1, 1)
    view = LineView(settings, tmp_path)
    view.newest_frame("top")
    # Garbage of earlier tests in this process must not close its descriptors during this one.
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        view.newest_frame("top")
        view.status()
        view.passed_scores("top")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
