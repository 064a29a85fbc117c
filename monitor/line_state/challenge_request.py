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


class Act(StrEnum):
    BEGIN = "begin"
    """A new challenge, after a failure or though none is due."""
    ARM = "arm"
    """The next frame of the part's camera shows the part."""
    DISARM = "disarm"


class ChallengeRequest(msgspec.Struct, frozen=True):
    """A request on the board. The field names are stored there."""

    number: int
    act: Act
    by: str
    part: str = ""
    """The part to be shown, for ARM."""


def ask(board: Board, act: Act, by: str, part: str = "") -> int:
    """Asks in the name of `by`. Returns the number of the request."""
    number = board.read(REVIEW, Field.CHALLENGES_ASKED) + 1
    request = ChallengeRequest(number, act, by[:_LONGEST_NAME], part)
    board.write_note(REVIEW, Note.REQUEST, msgspec.msgpack.encode(request))
    board.write(REVIEW, Field.CHALLENGES_ASKED, number)
    return number


def is_taken(board: Board, number: int) -> bool:
    """Whether the publisher has acted on that request."""
    return board.read(PUBLISH, Field.CHALLENGES_TAKEN) >= number


def take(board: Board) -> ChallengeRequest | None:
    """What a person has asked for since the last call; None without a request.

    The request counts as taken before it is done: after a kill between the two, the person asks again.
    """
    asked = board.read(REVIEW, Field.CHALLENGES_ASKED)
    if asked == board.read(PUBLISH, Field.CHALLENGES_TAKEN):
        return None
    board.write(PUBLISH, Field.CHALLENGES_TAKEN, asked)
    return read_note(board, REVIEW, Note.REQUEST, ChallengeRequest)
