"""A reset that a person asks for on the operators' page.

It knows nothing of what a reset does. A publisher that is killed before the reset leaves the line latched.
"""

from __future__ import annotations

from monitor.line_state.board import Board, Field, Note
from monitor.line_state.page_request import PageRequests

_LONGEST_NAME = 100
_REQUESTS = PageRequests(Field.RESETS_ASKED, Field.RESETS_TAKEN, Note.RESET_BY)


def ask(board: Board, by: str) -> int:
    """Asks for a reset in the name of `by`. Returns the number of the request."""
    return _REQUESTS.ask(board, by[:_LONGEST_NAME].encode())


def is_taken(board: Board, number: int) -> bool:
    """Whether the publisher has acted on that request."""
    return _REQUESTS.is_taken(board, number)


def take(board: Board) -> str | None:
    """Who asked for a reset since the last call; None without a request."""
    name = _REQUESTS.take(board)
    return name.decode(errors="replace") if name is not None else None
