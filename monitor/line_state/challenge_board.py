"""The challenge's state on the board: it outlives the publisher, and a disk that is full or hangs.

It knows nothing of what the state means. The publisher writes it; the page and the next publisher read it.
The board has no room for the history, which is on disk alone.
"""

from __future__ import annotations

import zlib

import msgspec

from monitor.line_state import challenge_run
from monitor.line_state.board import Board, Field, Note
from monitor.line_state.challenge_run import ChallengeState, Hold, Phase
from monitor.line_state.worker_process import PUBLISH
from monitor.settings import ChallengeSettings

_MOST_ATTEMPTS = 8
"""Of the wrong attempts, the newest: each has about 300 bytes."""


def write_state(board: Board, state: ChallengeState) -> None:
    """Writes the state and its hold. A kill in between leaves the graver of the two holds."""
    hold = state.phase.hold
    if hold is not Hold.NONE:
        board.write(PUBLISH, Field.CHALLENGE_HOLD, hold)
    board.write_note(PUBLISH, Note.CHALLENGE, _encode(state))
    board.write(PUBLISH, Field.CHALLENGE_HOLD, hold)


def _encode(state: ChallengeState) -> bytes:
    """The state with as many attempts as there is room for."""
    for most in range(_MOST_ATTEMPTS, -1, -1):
        content = msgspec.msgpack.encode(challenge_run.shorten(state, most))
        if len(content) <= Note.CHALLENGE.room:
            break
    return content


def read_state(board: Board) -> ChallengeState | None:
    """The state without its history; None on a board that never held one. A state that was only partly
    written is due or failed, as the hold says."""
    try:
        return msgspec.msgpack.decode(board.read_note(PUBLISH, Note.CHALLENGE), type=ChallengeState)
    except msgspec.MsgspecError:
        hold = board.read(PUBLISH, Field.CHALLENGE_HOLD)
    if hold == Hold.NONE:
        return None
    return ChallengeState(phase=Phase.FAILED if hold == Hold.FAILED else Phase.DUE)


def checksum_parts(challenge: ChallengeSettings) -> int:
    """What tells whether a part's number means the same part."""
    return zlib.crc32(" ".join(part.id for part in challenge.part).encode())
