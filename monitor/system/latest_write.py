"""Writes the newest of several values on a thread, for a caller that must not wait for a disk.

It knows nothing of the values. A value that is replaced before it was written is skipped. A write that fails
is tried again every second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from monitor.system.trouble_log import TroubleLog

_RETRY_S = 1.0
_T = TypeVar("_T")


class LatestWrite(Generic[_T]):
    """The writer of one file. `write` writes a value and may raise OSError. `risk` says in the log what
    follows while that fails."""

    def __init__(
        self, file: Path, name: str, write: Callable[[_T], None], risk: str, log: logging.Logger
    ) -> None:
        self._file, self._write, self._risk = file, write, risk
        self._trouble = TroubleLog(log, ended=f"{file}: is written again", log_changes=False)
        self._changed = threading.Condition()
        self._wanted: _T | None = None
        self._written: _T | None = None
        """What the file holds; None while it is being written and after a failure."""
        self._closing = False
        # A daemon thread: a disk that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, value: _T) -> None:
        """Sets what the thread writes. Returns at once."""
        with self._changed:
            self._wanted = value
            self._changed.notify_all()

    @property
    def is_written(self) -> bool:
        """Whether the file holds the value that was put last."""
        with self._changed:
            return self._wanted == self._written

    def close(self, timeout_s: float) -> bool:
        """Waits for the last write. Returns whether the file holds the value that was put last."""
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
            written = self._try(wanted)
            with self._changed:
                if written:
                    self._written = wanted
                elif self._closing:
                    return
                else:
                    self._changed.wait(_RETRY_S)

    def _try(self, value: _T) -> bool:
        try:
            self._write(value)
        except OSError as error:
            self._trouble.report(f"{self._file}: {error.strerror}: {self._risk}")
            return False
        self._trouble.report("")
        return True
