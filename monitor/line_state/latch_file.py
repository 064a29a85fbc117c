"""The latch: the reason that keeps the line from being ready until a person resets it, also after a restart.

It knows nothing of the causes. A thread writes `line.data/latch.json`, because the publisher must not wait
for a disk while rejects are to be sent. The publisher sends the latch in `P/status` once `is_written` is
true, or when that takes too long. A latch must never be lost: a file that can't be read counts as a missed
reject, the gravest latch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import msgspec

from monitor.line_state.latched_parts import NO_PARTS, LatchedParts
from monitor.system.atomic_file import remove_file, write_whole
from monitor.system.trouble_log import TroubleLog
from monitor.verdict import SCHEMA, rfc3339

_RETRY_S = 1.0


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
        self._trouble = TroubleLog(log, ended=f"{file}: is written again", log_changes=False)
        self._changed = threading.Condition()
        self._wanted: tuple[Latch, LatchedParts] | None = None
        self._written: tuple[Latch, LatchedParts] | None = None
        """What the file holds; None while it is being written and after a failure."""
        self._closing = False
        # A daemon thread: a disk that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="latch", daemon=True)
        self._thread.start()

    def put(self, latch: Latch, parts: LatchedParts = NO_PARTS) -> None:
        """Sets what the thread writes to the file; the latch NONE deletes the file. Returns at once."""
        with self._changed:
            self._wanted = latch, parts
            self._changed.notify_all()

    @property
    def is_written(self) -> bool:
        """Whether the file holds the latch that was put last."""
        with self._changed:
            return self._wanted == self._written

    def close(self, timeout_s: float) -> bool:
        """Waits for the last write. Returns whether the file holds the latch that was put last."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return self.is_written

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._wanted != self._written)
                wanted = self._wanted
                if wanted == self._written or wanted is None:
                    return
                self._written = None
            written = self._write(*wanted)
            with self._changed:
                if written:
                    self._written = wanted
                elif self._closing:
                    return
                else:
                    self._changed.wait(_RETRY_S)

    def _write(self, latch: Latch, parts: LatchedParts) -> bool:
        try:
            if latch is Latch.NONE:
                remove_file(self._file)
            else:
                write_latch(self._file, latch, self._utc_ns(), parts)
        except OSError as error:
            self._trouble.report(
                f"{self._file}: {error.strerror}: after a restart of the service the latch would be wrong"
            )
            return False
        self._trouble.report("")
        return True
