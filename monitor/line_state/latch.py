"""The latch on disk: what keeps the line from running until somebody resets it outlives the service too.

A thread of its own writes `line.data/latch.json`, since the publisher must not wait for a disk: not for the
latch either, while rejects are on their way. The publisher tells of a latch once `is_written` says so, or
when that takes too long. Must never lift a latch: a file that can't be read is a latch.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import msgspec

from monitor.system.atomic_file import write_whole
from monitor.verdict import SCHEMA, rfc3339

_AGAIN_S = 1.0
"""Until the next try, where the disk refuses."""


class Latch(IntEnum):
    """What keeps `ready` false until somebody resets it."""

    NONE = 0
    MISSED_REJECT = 1
    UNINSPECTED = 2
    REJECT_RUN = 3
    REJECT_RATE = 4

    def outranks(self, other: Latch) -> bool:
        """Whether somebody who resets `other` must hear of this one instead: a part may have escaped."""
        return other is Latch.NONE or (self is Latch.MISSED_REJECT and other is not Latch.MISSED_REJECT)

    @property
    def word(self) -> str | None:
        return None if self is Latch.NONE else self.name.lower()


class Latched(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    schema: int = SCHEMA
    latch: str
    """The word that `P/status` tells as the reason."""
    utc: str


def read_latch(file: Path) -> Latch:
    """What was latched when the service ended. Damaged, it is the gravest; nobody knows what was missed."""
    try:
        latched = msgspec.json.decode(file.read_bytes(), type=Latched)
        return Latch[latched.latch.upper()]
    except FileNotFoundError:
        return Latch.NONE
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return Latch.MISSED_REJECT


def write_latch(file: Path, latch: Latch, utc_ns: int) -> None:
    """Latches, on disk once this returns. Raises OSError; the file then is one that can't be read wherever
    the disk has room for so much as its name."""
    latched = Latched(latch=latch.name.lower(), utc=rfc3339(utc_ns))
    try:
        write_whole(file, msgspec.json.encode(latched) + b"\n")
    except OSError:
        if not file.exists():
            file.touch()
        raise


class LatchFile:
    """Keeps the file as it was last told. `utc_ns` is the clock, in nanoseconds."""

    def __init__(self, file: Path, log: logging.Logger, utc_ns: Callable[[], int] = time.time_ns) -> None:
        self._file, self._log, self._utc_ns = file, log, utc_ns
        self._changed = threading.Condition()
        self._wanted: Latch | None = None
        self._written: Latch | None = None
        self._closing = False
        self._problem = ""
        # A daemon: a disk that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name="latch", daemon=True)
        self._thread.start()

    def put(self, latch: Latch) -> None:
        """Asks for the file to hold that latch; NONE removes it. Returns at once."""
        with self._changed:
            self._wanted = latch
            self._changed.notify_all()

    @property
    def is_written(self) -> bool:
        """Whether the file is as it was last asked for."""
        with self._changed:
            return self._wanted is self._written

    def close(self, timeout_s: float) -> bool:
        """Waits for the last write. Whether the file is as it should be."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return self.is_written

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._wanted is not self._written)
                wanted = self._wanted
                if wanted is self._written or wanted is None:
                    return
            written = self._write(wanted)
            with self._changed:
                if written:
                    self._written = wanted
                elif self._closing:
                    return
                else:
                    self._changed.wait(_AGAIN_S)

    def _write(self, latch: Latch) -> bool:
        try:
            if latch is Latch.NONE:
                self._remove()
            else:
                write_latch(self._file, latch, self._utc_ns())
        except OSError as error:
            self._say(
                f"{self._file}: {error.strerror}: after a restart of the service the latch would be wrong"
            )
            return False
        self._say("")
        return True

    def _remove(self) -> None:
        self._file.unlink(missing_ok=True)
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _say(self, problem: str) -> None:
        """The first failure is said, and then its end."""
        if problem and not self._problem:
            self._log.error("%s", problem)
        elif self._problem and not problem:
            self._log.info("%s: is written again", self._file)
        self._problem = problem
