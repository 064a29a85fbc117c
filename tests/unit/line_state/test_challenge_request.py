"""What a person asks for on the challenge page is taken once, also when page or publisher was killed."""

from __future__ import annotations

from pathlib import Path

from monitor.line_state import challenge_request
from monitor.line_state.board import Board
from monitor.line_state.challenge_request import Act, ChallengeRequest
from monitor.line_state.worker_process import worker_names
from monitor.settings import Settings


def test_a_request_is_taken_once_and_outlives_its_author(tmp_path: Path) -> None:
    workers = worker_names(Settings())
    Board.create(tmp_path / "board", workers)
    page, publisher = Board(tmp_path / "board", workers), Board(tmp_path / "board", workers)
    assert challenge_request.take(publisher, 0) is None
    first = challenge_request.ask(page, Act.ARM, "anna", 0, "scratch-1")
    assert not challenge_request.is_taken(page, first)
    page.close()
    assert challenge_request.take(publisher, 0) == ChallengeRequest(Act.ARM, "anna", 0, "scratch-1")
    publisher.close()
    # Both programs were started again: the request before is not taken twice, a new one is.
    page, publisher = Board(tmp_path / "board", workers), Board(tmp_path / "board", workers)
    assert challenge_request.take(publisher, 0) is None
    second = challenge_request.ask(page, Act.BEGIN, "ü" * 1000, 0)
    found = challenge_request.take(publisher, 0)
    assert found is not None
    assert (found.act, found.part) == (Act.BEGIN, "")
    assert challenge_request.is_taken(page, second)
    for board in (page, publisher):
        board.close()
