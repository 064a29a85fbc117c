"""A request for a set of recipes is read from any payload without a crash, and fits on the board."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.line_state.board import Board, Note
from monitor.line_state.changeover import ChangeoverState, RequestError
from monitor.line_state.set_request import (
    SetRequest,
    SetStatus,
    find_pending_set,
    make_document_id,
    parse_set_request,
    write_set_request,
    write_set_status,
)
from monitor.line_state.worker_process import worker_names
from monitor.settings import Settings

LONG = "\U0010ffff" * 64


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_no_payload_breaks_the_parser(payload: bytes) -> None:
    message = ""
    try:
        parse_set_request(payload)
    except RequestError as error:
        message = str(error)
    assert "\n" not in message


def test_the_longest_request_and_answer_fit_on_the_board() -> None:
    request = SetRequest(2**63, LONG, "s" * 32)
    status = SetStatus(2**63, LONG, ChangeoverState.REFUSED, "s" * 32, "x" * 900)
    assert len(msgspec.msgpack.encode(request)) <= Note.REQUEST.room
    assert len(msgspec.msgpack.encode(status)) <= Note.RECIPE_STATUS.room
    assert len(make_document_id("0" * 36, 10**9)) <= 64, "a request_id of the set's file"


def test_a_request_is_pending_until_its_own_final_answer(tmp_path: Path) -> None:
    names = worker_names(Settings())
    Board.create(tmp_path / "board", names)
    board, request = Board(tmp_path / "board", names), SetRequest(2, "a", "bottle")
    assert find_pending_set(board) is None
    write_set_request(board, request)
    for number, state in ((1, ChangeoverState.IN_FORCE), (2, ChangeoverState.LOADING)):
        write_set_status(board, SetStatus(number, "a", state, "bottle", None))
        assert find_pending_set(board) == request
    write_set_status(board, SetStatus(2, "a", ChangeoverState.REFUSED, "bottle", "why"))
    assert find_pending_set(board) is None
