"""What a person asks for on the challenge page. It knows nothing of what follows."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from monitor.line_state.board import Board, Field, Note
from monitor.line_state.page_request import PageRequests

_LONGEST_NAME = 100
_LONGEST_WAIT_NS = 5_000_000_000
_REQUESTS = PageRequests(Field.CHALLENGES_ASKED, Field.CHALLENGES_TAKEN, Note.REQUEST)


class Act(StrEnum):
    BEGIN = "begin"
    """A new challenge, after a failure or though none is due."""
    WITHDRAW = "withdraw"
    """No challenge, where one was begun though none was due."""
    ARM = "arm"
    """The next frame of the part's camera shows the part; the part before is away from its camera."""
    DISARM = "disarm"
    """The part does not come."""
    CLEAR = "clear"
    """The part that was shown last is away from its camera."""


class ChallengeRequest(msgspec.Struct, frozen=True):
    """A request on the board. The field names are stored there."""

    act: Act
    by: str
    asked_ns: int
    """CLOCK_MONOTONIC."""
    part: str = ""
    """The part to be shown, for ARM."""


def ask(board: Board, act: Act, by: str, now_ns: int, part: str = "") -> int:
    """Asks in the name of `by`. Returns the number of the request. Two threads must not ask at once."""
    request = ChallengeRequest(act, by[:_LONGEST_NAME], now_ns, part)
    return _REQUESTS.ask(board, msgspec.msgpack.encode(request))


def is_taken(board: Board, number: int) -> bool:
    """Whether the publisher has acted on that request."""
    return _REQUESTS.is_taken(board, number)


def take(board: Board, now_ns: int) -> ChallengeRequest | None:
    """What a person has asked for since the last call; None without a request, and for one that is older than
    5 s: the page has told the person that nothing was done."""
    content = _REQUESTS.take(board)
    if not content:
        return None
    request = msgspec.msgpack.decode(content, type=ChallengeRequest)
    return request if now_ns - request.asked_ns <= _LONGEST_WAIT_NS else None
