"""A folder that goes away is a lost camera, said once, and the parts go on at the same file."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from monitor.capture.worker import CaptureLoop, Clocks
from monitor.line_state.board import Board, CameraState
from monitor.line_state.ring import Ring
from monitor.line_state.worker_process import Worker, WorkerStart, capture_name, settings_for, worker_names
from monitor.settings import Settings
from monitor.verdict import Reason


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_folder_that_goes_away_and_returns_costs_no_part_and_two_log_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    parts, runtime, session = tmp_path / "parts", tmp_path / "run", uuid.uuid4()
    parts.mkdir()
    runtime.mkdir()
    for number in range(600):
        cv2.imwrite(str(parts / f"{number:04}.png"), np.full((4, 4), 9, np.uint8))
    line = Settings(
        line={"data": tmp_path},  # type: ignore[arg-type]
        camera=({"name": "top", "source": f"folder://{parts}?fps=100", "recipe": "plate"},),  # type: ignore[arg-type]
    )
    capture = capture_name("top")
    Board.create(runtime / "board", worker_names(line))
    Ring.create(runtime, "top", session)
    start = WorkerStart(capture, str(runtime), str(session), os.getpid(), settings_for(line, capture))
    worker, ring = Worker(start), Ring(runtime, "top", session)
    capturing = CaptureLoop(worker, line.camera[0], Clocks())
    loop = threading.Thread(target=capturing.run)
    loop.start()
    try:
        wait_until(lambda: ring.last_frame() >= 3)
        away = parts.rename(tmp_path / "away")
        wait_until(lambda: worker.board.camera_state(capture) is CameraState.LOST)
        assert str(parts) in worker.board.read_trouble(capture)
        lost_at = ring.last_frame()
        away.rename(parts)
        wait_until(lambda: worker.board.camera_state(capture) is CameraState.UP)
        wait_until(lambda: ring.last_frame() >= lost_at + 3)
    finally:
        worker.stop()
        loop.join(10)
        # No scoring worker has received the descriptors.
        capturing._context.destroy(linger=0)
    frames = [ring.frame(number) for number in range(1, ring.last_frame() + 1)]
    assert [frame.device_frame for frame in frames if frame] == list(range(len(frames)))
    assert all(frame is not None and frame.refused is not Reason.BAD_FRAME for frame in frames)
    said = [record.getMessage() for record in caplog.records]
    assert said[:2] == [f"camera top reads {parts} (600 images)", "camera top is up"]
    assert said[2].startswith("camera top is lost: ")
    assert f"{parts}: there is no such folder" in said[2]
    assert said[3:] == ["camera top is up"]
