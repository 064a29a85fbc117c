"""A note on the board is read whole, or as empty where its writer died while it wrote."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.line_state.board import _NOTE, _RECORD, Board, Note


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    Board.create(tmp_path / "board", ("first", "second"))
    made = Board(tmp_path / "board", ("first", "second"))
    yield made
    made.close()


def tear(board: Board) -> None:
    """Leaves the note of `second` as a writer that stopped in the middle does."""
    board._view[_RECORD + Note.TROUBLE + _NOTE.size] ^= 1


def test_a_note_that_is_being_written_is_read_once_it_is_whole(board: Board) -> None:
    board.write_note("second", Note.TROUBLE, b"no light")
    tear(board)
    writer = threading.Timer(0.005, lambda: board.write_note("second", Note.TROUBLE, b"no camera"))
    writer.start()
    assert board.read_note("second", Note.TROUBLE) == b"no camera"
    writer.join()
    assert board.read_note("first", Note.TROUBLE) == b""


def test_a_note_whose_writer_died_is_empty(board: Board) -> None:
    board.write_note("second", Note.TROUBLE, b"no light")
    tear(board)
    assert board.read_note("second", Note.TROUBLE) == b""
