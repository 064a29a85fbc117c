"""Requests that people make on the operators' page, one kind each: from the review worker to the publisher.

It knows nothing of what is asked for. A request is in the review worker's own record of the board, so each
field keeps its one writer, and a request outlives a restart of either worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.line_state.board import Board, Field, Note
from monitor.line_state.worker_process import PUBLISH, REVIEW


@dataclass(frozen=True, slots=True)
class PageRequests:
    """The place on the board for one kind of request. It has room for one request."""

    asked: Field
    """In the review worker's record: how often people have asked."""
    taken: Field
    """In the publisher's record: the number in `asked` that it has acted on last."""
    note: Note

    def ask(self, board: Board, content: bytes) -> int:
        """Asks. Returns the number of the request. Two threads must not ask at once."""
        number = board.read(REVIEW, self.asked) + 1
        board.write_note(REVIEW, self.note, content)
        board.write(REVIEW, self.asked, number)
        return number

    def is_taken(self, board: Board, number: int) -> bool:
        """Whether the publisher has acted on that request."""
        return board.read(PUBLISH, self.taken) >= number

    def take(self, board: Board) -> bytes | None:
        """What was asked for since the last call; None without a request.

        The request counts as taken before it is done: after a kill between the two, the person asks again.
        """
        asked = board.read(REVIEW, self.asked)
        if asked == board.read(PUBLISH, self.taken):
            return None
        board.write(PUBLISH, self.taken, asked)
        return board.read_note(REVIEW, self.note)
