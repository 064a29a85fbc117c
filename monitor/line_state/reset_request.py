"""A reset that a person asks for on the operators' page: from the review worker to the publisher.

It knows nothing of what a reset does. The request is in the review worker's own record of the board, so each
field keeps its one writer, and a request outlives a restart of either worker.
"""

from __future__ import annotations

from monitor.line_state.board import Board, Field, Note
from monitor.line_state.worker_process import PUBLISH, REVIEW

_LONGEST_NAME = 100


def ask(board: Board, by: str) -> int:
    """Asks for a reset in the name of `by`. Returns the number of the request."""
    number = board.read(REVIEW, Field.RESETS_ASKED) + 1
    board.write_note(REVIEW, Note.RESET_BY, by[:_LONGEST_NAME].encode())
    board.write(REVIEW, Field.RESETS_ASKED, number)
    return number


def is_taken(board: Board, number: int) -> bool:
    """Whether the publisher has acted on that request."""
    return board.read(PUBLISH, Field.RESETS_TAKEN) >= number


def take(board: Board) -> str | None:
    """Who asked for a reset since the last call; None without a request.

    The request counts as taken before its reset: a publisher that is killed between the two leaves the line
    latched.
    """
    asked = board.read(REVIEW, Field.RESETS_ASKED)
    if asked == board.read(PUBLISH, Field.RESETS_TAKEN):
        return None
    board.write(PUBLISH, Field.RESETS_TAKEN, asked)
    return board.read_note(REVIEW, Note.RESET_BY).decode(errors="replace")
