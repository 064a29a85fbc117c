"""What a person asks for on the challenge page: from the review worker to the publisher.

It knows nothing of what follows. As for a reset, the request is in the review worker's own record of the
board, so each field keeps its one writer, and a request outlives a restart of either worker.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from monitor.line_state.board import Board, Field, Note
from monitor.line_state.changeover import read_note
from monitor.line_state.worker_process import PUBLISH, REVIEW

_LONGEST_NAME = 100
_LONGEST_WAIT_NS = 5_000_000_000


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

    number: int
    act: Act
    by: str
    asked_ns: int
    """CLOCK_MONOTONIC."""
    part: str = ""
    """The part to be shown, for ARM."""


def ask(board: Board, act: Act, by: str, now_ns: int, part: str = "") -> int:
    """Asks in the name of `by`. Returns the number of the request. Two threads must not ask at once."""
    number = board.read(REVIEW, Field.CHALLENGES_ASKED) + 1
    request = ChallengeRequest(number, act, by[:_LONGEST_NAME], now_ns, part)
    board.write_note(REVIEW, Note.REQUEST, msgspec.msgpack.encode(request))
    board.write(REVIEW, Field.CHALLENGES_ASKED, number)
    return number


def is_taken(board: Board, number: int) -> bool:
    """Whether the publisher has acted on that request."""
    return board.read(PUBLISH, Field.CHALLENGES_TAKEN) >= number


def take(board: Board, now_ns: int) -> ChallengeRequest | None:
    """What a person has asked for since the last call; None without a request, and for one that is older than
    5 s: the page has told the person that nothing was done.

    The request counts as taken before it is done: after a kill between the two, the person asks again.
    """
    asked = board.read(REVIEW, Field.CHALLENGES_ASKED)
    if asked == board.read(PUBLISH, Field.CHALLENGES_TAKEN):
        return None
    board.write(PUBLISH, Field.CHALLENGES_TAKEN, asked)
    request = read_note(board, REVIEW, Note.REQUEST, ChallengeRequest)
    if request is None or now_ns - request.asked_ns > _LONGEST_WAIT_NS:
        return None
    return request
