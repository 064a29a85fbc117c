"""A request over MQTT for a set of recipes, and its answer, on the board.

It loads no recipe and sends no message. The publisher writes the request, which names a set of the settings;
the scoring worker changes all cameras of the set over, or none, and writes the answer. When one of the two
processes dies, its successor finds the request on the board and answers it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from monitor.line_state.board import Board, Note
from monitor.line_state.changeover import ChangeoverState, RequestId, is_answered, parse_as, read_note
from monitor.line_state.worker_process import PUBLISH, SCORING
from monitor.verdict import SCHEMA


class SetRequestPayload(msgspec.Struct, frozen=True):
    """The payload of `P/recipe/set`."""

    request_id: RequestId
    recipe_set: str
    """The name of a set in the settings."""


class SetRequest(msgspec.Struct, frozen=True):
    """A requested set on the board. The field names are stored there."""

    number: int
    """The number of the request in this session, from 1."""
    request_id: RequestId
    recipe_set: str

    def is_repeated_by(self, payload: SetRequestPayload) -> bool:
        """Whether the message is the same request once more, as QoS 1 allows."""
        return (self.request_id, self.recipe_set) == (payload.request_id, payload.recipe_set)


class SetStatus(msgspec.Struct, frozen=True):
    """What became of the last set that was asked for. The field names are stored on the board."""

    number: int
    """The number of the last request over MQTT that the scoring worker has begun; 0 before the first."""
    request_id: RequestId | None
    """Also that of a set which a person asked for. None for the set in force at the start."""
    state: ChangeoverState
    recipe_set: str | None
    """None at the start of a line that was never changed over to a set."""
    reason: str | None

    def payload(self) -> dict[str, Any]:
        """The payload of `P/recipe`."""
        return make_set_answer(self.request_id, self.state, self.recipe_set, self.reason)


def make_set_answer(
    request_id: RequestId | None, state: ChangeoverState, recipe_set: str | None, reason: str | None
) -> dict[str, Any]:
    """The payload of `P/recipe`."""
    return {
        "schema": SCHEMA,
        "request_id": request_id,
        "state": state.value,
        "recipe_set": recipe_set,
        "reason": reason,
    }


def parse_set_request(payload: bytes) -> SetRequestPayload:
    """Reads the payload of `P/recipe/set`. Raises RequestError."""
    return parse_as(SetRequestPayload, payload, "recipe_set")


def make_document_id(session: str, number: int) -> str:
    """The `request_id` of the set in its file. It is unique, which a gateway's own may not be, and tells
    after a death of the scoring worker whether the request had taken effect."""
    return f"set-{session}-{number}"


def write_set_request(board: Board, request: SetRequest) -> None:
    """Writes the request for a set. Only the publisher calls it."""
    board.write_note(PUBLISH, Note.REQUEST, msgspec.msgpack.encode(request))


def read_set_request(board: Board) -> SetRequest | None:
    """The last request for a set; None when there is none."""
    return read_note(board, PUBLISH, Note.REQUEST, SetRequest)


def write_set_status(board: Board, status: SetStatus) -> None:
    """Writes what became of the last set that was asked for. Only the scoring worker calls it."""
    board.write_note(SCORING, Note.RECIPE_STATUS, msgspec.msgpack.encode(status))


def read_set_status(board: Board) -> SetStatus | None:
    """What became of the last set that was asked for; None before the first answer."""
    return read_note(board, SCORING, Note.RECIPE_STATUS, SetStatus)


def find_pending_set(board: Board) -> SetRequest | None:
    """The request that the scoring worker has not answered yet; None when there is none."""
    request = read_set_request(board)
    if request is None or is_answered(request, read_set_status(board)):
        return None
    return request
