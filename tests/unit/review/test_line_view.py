"""The line view reads the rings and the board and can't change them; a picture never mixes two frames."""

from __future__ import annotations

import gc
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.line_state.board import Board, CameraState, Field, WorkerState
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import FinalVerdict, Ring
from monitor.line_state.worker_process import PUBLISH, SCORING, SUPERVISOR, capture_name, worker_names
from monitor.review.line_view import LineView
from monitor.review.state_banner import Light
from monitor.settings import Mode, Settings
from monitor.verdict import Reason, Verdict


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
    assert off.banner.light is Light.GREY
    assert [camera.state for camera in off.cameras] == ["stopped"]
    workers = worker_names(settings)
    Board.create(tmp_path / "board", workers)
    board = Board(tmp_path / "board", workers)
    later = time.monotonic_ns() + 10**11
    for name in (PUBLISH, capture_name("top")):
        board.write(name, Field.STATE, WorkerState.RUNNING)
        board.write(name, Field.ALIVE_UNTIL_NS, later)
        board.write(name, Field.EVER_RAN, 1)
    board.write(capture_name("top"), Field.CAMERA_STATE, CameraState.UP)
    board.write_trouble(PUBLISH, "the broker is away")
    assert view.status().banner.headline == "Starting"
    board.write(SCORING, Field.EVER_RAN, 1)
    board.write(SCORING, Field.STATE, WorkerState.RUNNING)
    board.write(SCORING, Field.ALIVE_UNTIL_NS, later)
    assert view.status().banner.headline == "No connection"
    board.write(PUBLISH, Field.READY, 1)
    status = view.status()
    assert status.banner.light is Light.GREEN
    assert status.cameras[0].state == "up"
    assert status.problems == (f"{PUBLISH}: the broker is away",)
    missing = settings.line.data / "recipes/plate/recipe.json"
    board.write_trouble(SCORING, f"{missing}: no such file: train the recipe")
    assert "camera top: recipe plate is not taught yet: open the page Teach" in view.status().problems
    board.write_trouble(SCORING, "")
    board.write(SCORING, Field.WITHOUT_TIME, 1)
    assert view.status().problems[1:] == ("view top: no time left for it, since parts come first",)
    board.write(capture_name("top"), Field.ALIVE_UNTIL_NS, 0)
    board.write(PUBLISH, Field.ALIVE_UNTIL_NS, 0)
    status = view.status()
    assert (status.banner.light, status.banner.headline) == (Light.RED, "Camera lost")
    assert status.cameras[0].state == "lost"
    board.close()


@pytest.mark.parametrize("sign", ["no such process", "a promise from before the machine was switched on"])
def test_the_board_of_a_line_that_was_killed_never_looks_like_a_running_line(
    tmp_path: Path, settings: Settings, sign: str
) -> None:
    workers = worker_names(settings)
    Board.create(tmp_path / "board", workers)
    board = Board(tmp_path / "board", workers)
    ahead = 10**11 if sign == "no such process" else 10**13
    for name in (PUBLISH, SCORING, capture_name("top")):
        board.write(name, Field.STATE, WorkerState.RUNNING)
        board.write(name, Field.ALIVE_UNTIL_NS, time.monotonic_ns() + ahead)
        board.write(name, Field.EVER_RAN, 1)
    board.write(PUBLISH, Field.READY, 1)
    board.write(capture_name("top"), Field.CAMERA_STATE, CameraState.UP)
    if sign == "no such process":
        with subprocess.Popen(["true"]) as ended:
            pass
        board.write(SUPERVISOR, Field.PID, ended.pid)
    banner = LineView(settings, tmp_path).status().banner
    assert (banner.light, banner.headline) == (Light.RED, "Line is down")
    board.close()


def test_the_newest_reject_is_seen_at_once_and_each_frame_is_looked_at_once(
    tmp_path: Path, ring: Ring, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    view = LineView(settings, tmp_path)
    assert view.newest_reject() is None

    def close(number: int, verdict: Verdict) -> None:
        ring.write_closed(number, FinalVerdict(verdict, Reason.NONE, False, False, 1, 1))

    for number in range(1, 6):
        put_frame(number, 7)
    close(1, Verdict.REJECT)
    close(2, Verdict.PASS)
    assert (found := view.newest_reject()) is not None
    assert (found.camera, found.frame) == ("top", 1)
    # The frames after one without a verdict are looked at when that one has its verdict.
    close(4, Verdict.REJECT)
    assert view.newest_reject() == found
    close(3, Verdict.PASS)
    assert (newer := view.newest_reject()) is not None
    assert newer.frame == 4


@pytest.mark.parametrize("latch", [latch for latch in Latch if latch is not Latch.NONE])
def test_who_looks_at_a_line_that_waits_for_a_reset_reads_what_to_look_for(
    tmp_path: Path, settings: Settings, latch: Latch
) -> None:
    Board.create(tmp_path / "board", worker_names(settings))
    board = Board(tmp_path / "board", worker_names(settings))
    board.write(PUBLISH, Field.LATCH, latch)
    banner = LineView(settings, tmp_path).status().banner
    assert (banner.light, banner.needs_reset) == (Light.RED, True)
    assert re.search("Look (for|at) .*, then reset the line", banner.sentence)
    board.write(PUBLISH, Field.LATCH, Latch.NONE)
    assert not LineView(settings, tmp_path).status().banner.needs_reset
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


def test_parts_that_were_not_judged_keep_the_bar_of_a_ready_line_amber(
    tmp_path: Path, ring: Ring, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    workers = worker_names(settings)
    Board.create(tmp_path / "board", workers)
    board = Board(tmp_path / "board", workers)
    for name in workers:
        board.write(name, Field.STATE, WorkerState.RUNNING)
        board.write(name, Field.ALIVE_UNTIL_NS, time.monotonic_ns() + 10**11)
        board.write(name, Field.EVER_RAN, 1)
    board.write(capture_name("top"), Field.CAMERA_STATE, CameraState.UP)
    board.write(PUBLISH, Field.READY, 1)
    ahead_ns = [0]
    view = LineView(settings, tmp_path, clock=lambda: time.monotonic_ns() + ahead_ns[0])

    def put(numbers: range, verdict: Verdict) -> None:
        reason = Reason.DEADLINE if verdict is Verdict.UNINSPECTED else Reason.NONE
        for number in numbers:
            put_frame(number, 7)
            ring.write_closed(number, FinalVerdict(verdict, reason, False, False, 1, 1))

    put(range(1, 11), Verdict.PASS)
    assert view.status().banner.light is Light.GREEN
    put(range(11, 16), Verdict.UNINSPECTED)
    put(range(16, 21), Verdict.PASS)
    for page in (view, LineView(settings, tmp_path)):
        banner = page.status().banner
        assert (banner.light, banner.headline) == (Light.AMBER, "Ready, but look")
        assert "5 of the last 20 parts were not judged" in banner.sentence
    ahead_ns[0] = 59 * 10**9
    put(range(21, 41), Verdict.PASS)
    assert view.status().banner.light is Light.AMBER
    ahead_ns[0] = 61 * 10**9
    assert view.status().banner.light is Light.GREEN
    live_view = settings.camera[0].model_copy(update={"mode": Mode.LATEST})
    of_views = LineView(settings.model_copy(update={"camera": (live_view,)}), tmp_path)
    assert of_views.status().banner.light is Light.GREEN
    board.close()
