"""The line for `systemctl status` names what keeps the service from being ready."""

from __future__ import annotations

from pathlib import Path

from monitor.line_state.board import Board, CameraState, Field, WorkerState
from monitor.line_state.challenge_run import Hold
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import LatchedPart, LatchedParts, write_parts
from monitor.line_state.worker_process import (
    PUBLISH,
    SCORING,
    SNAPSHOTS,
    SUPERVISOR,
    capture_name,
    worker_names,
)
from monitor.service.status_line import make_text
from monitor.settings import Settings

NOW_NS = 100_000_000_000


def settings(tmp_path: Path) -> Settings:
    return Settings(
        line={"data": tmp_path},
        camera=[
            {"name": name, "source": f"folder://{tmp_path}", "recipe": "plate"} for name in ("top", "side")
        ],
        metrics={"port": 0},
        review={"port": 0},
    )


def run(board: Board, worker: str) -> None:
    board.write(worker, Field.STATE, WorkerState.RUNNING)
    board.write(worker, Field.EVER_RAN, 1)
    board.write(worker, Field.ALIVE_UNTIL_NS, NOW_NS + 1_000_000_000)


def test_the_words_tell_what_is_in_the_way(tmp_path: Path) -> None:
    line = settings(tmp_path)
    Board.create(tmp_path / "board", worker_names(line))
    board = Board(tmp_path / "board", worker_names(line))
    expected = (SCORING, PUBLISH, SNAPSHOTS)

    def text() -> str:
        return make_text(line, board, expected, NOW_NS)

    assert text() == "starting: recipes are loaded and warmed up"
    for worker in (*expected, capture_name("top"), capture_name("side")):
        run(board, worker)
    assert text().startswith("not ready; no broker yet at 127.0.0.1:1883; 0 of 2 cameras up")
    board.write_trouble(PUBLISH, "another line speaks as plant1/line1")
    assert text().startswith("not ready; another line speaks as plant1/line1; 0 of 2 cameras up")
    board.write_trouble(PUBLISH, "")
    board.write(PUBLISH, Field.EVER_CONNECTED, 1)
    board.write(PUBLISH, Field.READY, 1)
    for camera in ("top", "side"):
        board.write(capture_name(camera), Field.CAMERA_STATE, CameraState.UP)
    assert text() == "ready; 2 of 2 cameras up"
    board.write(SCORING, Field.WITHOUT_TIME, 0b10)
    assert text() == "ready; 2 of 2 cameras up; view side: no time left for it"
    board.write(SCORING, Field.WITHOUT_TIME, 0)
    changed = make_text(line, board, expected, NOW_NS, ("mqtt.port", "camera.top.source"))
    assert changed == "ready; 2 of 2 cameras up; restart to change mqtt.port, camera.top.source"
    board.write(capture_name("side"), Field.CAMERA_STATE, CameraState.FROZEN)
    board.write(PUBLISH, Field.READY, 0)
    board.write(PUBLISH, Field.LATCH, Latch.MISSED_REJECT)
    board.write(SCORING, Field.WITHOUT_RECIPE, 0b10)
    board.write(SNAPSHOTS, Field.STATE, WorkerState.ABSENT)
    assert text() == (
        "not ready; missed_reject, until it is reset; 1 of 2 cameras up (side frozen); "
        "without recipe: side; being restarted: snapshots"
    )
    write_parts(board, LatchedParts((LatchedPart("top", 7, "2026-11-23T18:00:00.123Z"),)))
    assert text().startswith(
        "not ready; missed_reject (camera top, frame 7, captured 2026-11-23T18:00:00.123Z, no picture), "
        "until it is reset; 1 of"
    )
    board.write(SUPERVISOR, Field.STOPPING, 1)
    assert text() == "stopping"
    board.close()


def test_a_challenge_that_is_due_or_has_failed_is_named(tmp_path: Path) -> None:
    line = settings(tmp_path)
    Board.create(tmp_path / "board", worker_names(line))
    board = Board(tmp_path / "board", worker_names(line))
    run(board, SCORING)
    assert "challenge" not in make_text(line, board, (), NOW_NS)
    for hold, words in ((Hold.DUE, "is due"), (Hold.FAILED, "has failed")):
        board.write(PUBLISH, Field.CHALLENGE_HOLD, hold)
        assert f"a challenge with known parts {words}" in make_text(line, board, (), NOW_NS)
