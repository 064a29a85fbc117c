"""The live view reads rings and can't change them; a picture is one frame's, whole, or none."""

from __future__ import annotations

import re
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from monitor.line_state.board import Board, CameraState, Word, WorkerState
from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.latch import Latch
from monitor.line_state.ring import Ring
from monitor.line_state.worker_process import PUBLISH, capture_name, roll
from monitor.review.application import build
from monitor.review.line_view import LineView
from monitor.settings import CameraSettings, LineSettings, Settings

SIDE = 600


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    camera = CameraSettings(name="top", source="simulated://plate", recipe="plate")
    return Settings(line=LineSettings(data=tmp_path / "data"), camera=(camera,))


def put(ring: Ring, number: int, value: int) -> None:
    slot = ring.free_slot()
    assert slot is not None
    now = time.monotonic_ns()
    frame = Frame(number, now, now, now, now, now, 0, number, slot, PixelFormat.Mono8, SIDE, SIDE)
    ring.record(frame)
    ring.fill(frame, np.full((SIDE, SIDE), value, np.uint8))
    ring.release(frame)


def test_the_newest_frame_is_shown_also_after_its_slot_was_released(
    tmp_path: Path, ring: Ring, settings: Settings
) -> None:
    ring.reserve(SIDE * SIDE)
    view = LineView(settings, tmp_path)
    assert view.newest("top") is None
    for number in range(1, 4):
        put(ring, number, 10 * number)
    found = view.newest("top")
    assert found is not None
    assert found[0].number == 3
    assert (found[1] == 30).all()
    assert ring.waiting() == []


def test_a_picture_is_never_half_of_two_frames(tmp_path: Path, ring: Ring, settings: Settings) -> None:
    ring.reserve(SIDE * SIDE)
    view = LineView(settings, tmp_path)
    ended = threading.Event()

    def capture() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            put(ring, number, number % 251)
            time.sleep(0.001)

    thread = threading.Thread(target=capture)
    thread.start()
    try:
        seen = 0
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            found = view.newest("top")
            if found is not None:
                seen += 1
                assert (found[1] == found[0].number % 251).all()
    finally:
        ended.set()
        thread.join()
    assert seen > 20


def test_a_ring_that_is_mapped_for_reading_can_not_be_written(tmp_path: Path, ring: Ring) -> None:
    ring.reserve(SIDE * SIDE)
    put(ring, 1, 7)
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
    workers = roll(settings)
    Board.create(tmp_path / "board", workers)
    board = Board(tmp_path / "board", workers)
    later = time.monotonic_ns() + 10**11
    for name in (PUBLISH, capture_name("top")):
        board.write(name, Word.STATE, WorkerState.RUNNING)
        board.write(name, Word.PROMISE_NS, later)
        board.write(name, Word.EVER_RAN, 1)
    board.write(PUBLISH, Word.READY, 1)
    board.write(capture_name("top"), Word.CAMERA_STATE, CameraState.UP)
    board.say(PUBLISH, "the broker is away")
    status = view.status()
    assert status.running
    assert status.ready
    assert status.cameras[0].state == "up"
    assert status.troubles == (f"{PUBLISH}: the broker is away",)
    board.write(capture_name("top"), Word.PROMISE_NS, 0)
    board.write(PUBLISH, Word.PROMISE_NS, 0)
    status = view.status()
    assert not status.ready
    assert status.cameras[0].state == "lost"
    board.close()


def test_what_is_counted_since_the_start_is_not_called_the_days(
    tmp_path: Path, ring: Ring, settings: Settings
) -> None:
    Board.create(tmp_path / "board", roll(settings))
    ring.reserve(SIDE * SIDE)
    for number in range(1, 4):
        put(ring, number, 7)
    page = build(settings, tmp_path).wsgi.test_client()
    for path in ("/today", "/live"):
        text = page.get(path, headers={"Host": "localhost"}).get_data(as_text=True)
        heads = re.findall(r'<th class="group" colspan="4">([^<]*)</th>', text)
        assert heads == ["Since the service was started"]
        _, _, counted = text.partition(heads[0])
        assert re.findall(r'<td class="number">(\d+)</td>', counted)[0] == "3"
    today = page.get("/today", headers={"Host": "localhost"}).get_data(as_text=True)
    assert "What passed or was not inspected is not counted by the day" in today.partition(heads[0])[0]


@pytest.mark.parametrize("latch", [latch for latch in Latch if latch is not Latch.NONE])
def test_who_looks_at_a_line_that_waits_for_a_reset_reads_what_to_look_for(
    tmp_path: Path, settings: Settings, latch: Latch
) -> None:
    Board.create(tmp_path / "board", roll(settings))
    board = Board(tmp_path / "board", roll(settings))
    board.write(PUBLISH, Word.LATCH, latch)
    (said,) = LineView(settings, tmp_path).status().troubles
    assert re.search("look (for|at) .*; then the line waits for a reset", said)
    board.write(PUBLISH, Word.LATCH, Latch.NONE)
    assert LineView(settings, tmp_path).status().troubles == ()
    board.close()


def test_a_line_that_was_started_anew_is_seen_at_once(tmp_path: Path, ring: Ring, settings: Settings) -> None:
    ring.reserve(SIDE * SIDE)
    put(ring, 1, 1)
    view = LineView(settings, tmp_path)
    assert view.newest("top") is not None
    Ring.create(tmp_path, "top", uuid.uuid4())
    assert view.newest("top") is None


def test_looking_keeps_nothing_open(tmp_path: Path, ring: Ring, settings: Settings) -> None:
    ring.reserve(SIDE * SIDE)
    put(ring, 1, 1)
    view = LineView(settings, tmp_path)
    view.newest("top")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        view.newest("top")
        view.status()
        view.passed_scores("top")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
