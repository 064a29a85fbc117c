"""The challenge's state on disk, `line.data/challenge.json`, which outlives the service.

It knows nothing of what the state means. A thread writes it, because the publisher must not wait for a disk.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from monitor.line_state.challenge_run import ChallengeError, ChallengeState
from monitor.system.atomic_file import write_whole
from monitor.system.latest_write import LatestWrite


def read_challenge(file: Path) -> ChallengeState | None:
    """The state on disk; None where no challenge was ever due. Raises ChallengeError for a file that can't be
    read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=ChallengeState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ChallengeError(f"{file}: can't be read ({why}): the challenge is due again") from None


def open_challenge_file(file: Path, log: logging.Logger) -> LatestWrite[ChallengeState]:
    """The thread that writes the state."""
    return LatestWrite(
        file,
        "challenge",
        lambda state: write_whole(file, msgspec.json.encode(state) + b"\n"),
        "after a loss of power the challenge would be due again or as it was before",
        log,
    )
