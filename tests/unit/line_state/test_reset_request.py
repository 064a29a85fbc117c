"""A reset from the page reaches the publisher once, also when one of the two was killed."""

from __future__ import annotations

from pathlib import Path

from monitor.line_state import reset_request
from monitor.line_state.board import Board
from monitor.line_state.worker_process import worker_names
from monitor.settings import Settings


def test_a_request_is_taken_once_with_its_name_and_outlives_its_author(tmp_path: Path) -> None:
    workers = worker_names(Settings())
    Board.create(tmp_path / "board", workers)
    page, publisher = Board(tmp_path / "board", workers), Board(tmp_path / "board", workers)
    assert reset_request.take(publisher) is None
    first = reset_request.ask(page, "anna")
    assert not reset_request.is_taken(page, first)
    page.close()
    assert reset_request.take(publisher) == "anna"
    assert reset_request.take(publisher) is None
    publisher.close()
    # Both programs were started again: the request before is not taken twice, a new one is.
    page, publisher = Board(tmp_path / "board", workers), Board(tmp_path / "board", workers)
    assert reset_request.take(publisher) is None
    second = reset_request.ask(page, "b" * 1000)
    assert second > first
    assert (reset_request.take(publisher) or "").startswith("bbb")
    assert reset_request.is_taken(page, second)
    for board in (page, publisher):
        board.close()
