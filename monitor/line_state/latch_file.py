"""The latch: the reason that keeps the line from being ready until a person resets it, also after a restart.

It knows nothing of the causes. A thread writes `line.data/latch.json`, because the publisher must not wait
for a disk while rejects are to be sent. The publisher sends the latch in `P/status` once `is_written` is
true, or when that takes too long. A latch must never be lost: a file that can't be read counts as a missed
reject, the gravest latch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import msgspec

from monitor.line_state.latched_parts import NO_PARTS, LatchedParts
from monitor.system.atomic_file import remove_file, write_whole
from monitor.system.latest_write import LatestWrite
from monitor.verdict import SCHEMA, rfc3339


class Latch(IntEnum):
    """The reason that keeps `ready` false until a person resets it."""

    NONE = 0
    MISSED_REJECT = 1
    UNINSPECTED = 2
    REJECT_RUN = 3
    REJECT_RATE = 4

    def outranks(self, other: Latch) -> bool:
        """Whether this latch replaces `other`: a missed reject is the gravest, since a part may have
        escaped."""
        return other is Latch.NONE or (self is Latch.MISSED_REJECT and other is not Latch.MISSED_REJECT)

    @property
    def word(self) -> str | None:
        return None if self is Latch.NONE else self.name.lower()


class LatchDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    schema: int = SCHEMA
    latch: str
    """The reason in `P/status`."""
    utc: str
    latched: LatchedParts = NO_PARTS
    """Files of earlier versions lack it."""


def read_latch(file: Path) -> Latch:
    """The latch at the end of the last service. A damaged file counts as a missed reject, since its reason is
    not known."""
    return read_latch_and_parts(file)[0]


def read_latch_and_parts(file: Path) -> tuple[Latch, LatchedParts]:
    """As `read_latch`, with the parts for which the line was latched."""
    try:
        document = msgspec.json.decode(file.read_bytes(), type=LatchDocument)
        return Latch[document.latch.upper()], document.latched
    except FileNotFoundError:
        return Latch.NONE, NO_PARTS
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return Latch.MISSED_REJECT, NO_PARTS


def write_latch(file: Path, latch: Latch, utc_ns: int, parts: LatchedParts = NO_PARTS) -> None:
    """Writes the latch. It is on disk when the function returns. Raises OSError; then it leaves an empty file
    if the disk allows that, which `read_latch` takes for a missed reject."""
    document = LatchDocument(latch=latch.name.lower(), utc=rfc3339(utc_ns), latched=parts)
    try:
        write_whole(file, msgspec.json.encode(document) + b"\n")
    except OSError:
        if not file.exists():
            file.touch()
        raise


class LatchFile:
    """Writes the latch on a thread, and tries again every second until that works. `utc_ns` is the clock."""

    def __init__(self, file: Path, log: logging.Logger, utc_ns: Callable[[], int] = time.time_ns) -> None:
        self._file, self._utc_ns = file, utc_ns
        risk = "after a restart of the service the latch would be wrong"
        self._writer: LatestWrite[tuple[Latch, LatchedParts]] = LatestWrite(
            file, "latch", self._write, risk, log
        )

    def put(self, latch: Latch, parts: LatchedParts = NO_PARTS) -> None:
        """Sets what the thread writes to the file; the latch NONE deletes the file. Returns at once."""
        self._writer.put((latch, parts))

    @property
    def is_written(self) -> bool:
        """Whether the file holds the latch that was put last."""
        return self._writer.is_written

    def close(self, timeout_s: float) -> bool:
        """Waits for the last write. Returns whether the file holds the latch that was put last."""
        return self._writer.close(timeout_s)

    def _write(self, wanted: tuple[Latch, LatchedParts]) -> None:
        latch, parts = wanted
        if latch is Latch.NONE:
            remove_file(self._file)
        else:
            write_latch(self._file, latch, self._utc_ns(), parts)
