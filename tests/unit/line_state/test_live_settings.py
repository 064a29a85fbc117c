"""What the supervisor writes to the board is what the workers read, and one word holds a camera's times."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.line_state.board import Board, Field
from monitor.line_state.live_settings import read_camera, read_live_settings, write_live_settings
from monitor.line_state.worker_process import (
    SCORING,
    SUPERVISOR,
    Worker,
    WorkerStart,
    settings_for,
    worker_names,
)
from monitor.settings import LogLevel, Settings


def line(deadline_ms: int = 250, actuate_ms: int = 750, level: LogLevel = LogLevel.INFO) -> Settings:
    camera = {"name": "top", "source": "simulated://plate", "recipe": "plate"}
    camera |= {"deadline_ms": deadline_ms, "actuate_ms": actuate_ms}
    return Settings.model_validate({"line": {"data": "/data"}, "camera": [camera], "log": {"level": level}})


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    file = tmp_path_factory.mktemp("board") / "board"
    Board.create(file, worker_names(line()))
    opened = Board(file, worker_names(line()))
    yield opened
    opened.close()


@given(
    deadline=st.integers(10, 600_000), gate=st.integers(1, 3_000_000), level=st.sampled_from(list(LogLevel))
)
def test_every_allowed_value_arrives(board: Board, deadline: int, gate: int, level: LogLevel) -> None:
    after = line(deadline, deadline + gate, level)
    write_live_settings(board, after)
    assert read_live_settings(board, line()) == after


def test_deadline_and_last_moment_change_in_one_write(board: Board) -> None:
    write_live_settings(board, line(250, 300))
    with mock.patch.object(Board, "write", autospec=True, side_effect=Board.write) as written:
        write_live_settings(board, line(400, 900))
    of_camera = [call for call in written.call_args_list if call.args[1] == "capture-top"]
    assert len(of_camera) == 1, "no frame sees a deadline after the gate's last moment"


def test_without_a_supervisors_word_the_settings_of_the_start_count(tmp_path: Path) -> None:
    Board.create(tmp_path / "board", worker_names(line()))
    empty = Board(tmp_path / "board", worker_names(line()))
    camera = line().camera[0]
    assert read_camera(empty, camera) is camera
    assert read_live_settings(empty, line()) == line()
    empty.close()


def test_a_worker_takes_over_the_level_when_it_next_reports_that_it_is_alive(tmp_path: Path) -> None:
    Board.create(tmp_path / "board", worker_names(line()))
    start = WorkerStart(SCORING, str(tmp_path), str(uuid.uuid4()), os.getpid(), settings_for(line(), SCORING))
    root = logging.getLogger()
    before = root.level
    try:
        worker = Worker(start)
        assert root.level == before, "the supervisor has not written any"
        worker.board.write(SUPERVISOR, Field.LOG_LEVEL, LogLevel.ERROR.number)
        worker.report_alive(1.0)
        assert root.level == logging.ERROR
        worker.board.close()
    finally:
        root.setLevel(before)


def test_the_levels_are_those_of_pythons_logging() -> None:
    names = [logging.getLevelName(level.number).lower() for level in LogLevel]
    assert names == [level.value for level in LogLevel]
