"""One line an event on stderr, for journald with its level and for people with a time; a message that repeats
is held back.

Must never block a worker and never print a traceback for what a person can fix.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import logging.handlers
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

_WINDOW_NS = 60_000_000_000
_BURST = 5
_MOST_WAITING = 1000
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""Python's levels as syslog's, which journald takes from a line's beginning (sd-daemon(3))."""


class RateLimit(logging.Filter):
    """Lets a message's first five a minute through, then says how many more there were."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.CRITICAL:
            return True
        key = (record.name, record.getMessage())
        now = self._clock()
        since, count = self._seen.get(key, (now, 0))
        if now - since > _WINDOW_NS:
            if count > _BURST:
                record.msg = f"{record.getMessage()} ({count - _BURST} more like this in the last minute)"
                record.args = ()
            since, count = now, 0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (since, count + 1)
        return count < _BURST


class _Dropping(logging.handlers.QueueHandler):
    """Hands lines to the writing thread; where that is stuck and the queue full, they are counted instead."""

    def __init__(self, lines: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(lines)
        self._lines = lines
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._dropped:
            record.msg = f"{record.msg} (after {self._dropped} lines that nobody read in time)"
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def wait(self, seconds: float) -> None:
        """Gives the writing thread a moment for the last lines."""
        until = time.monotonic() + seconds
        while not self._lines.empty() and time.monotonic() < until:
            time.sleep(0.01)


def configure(level: int = logging.INFO) -> None:
    """Sends every logger's lines to stderr: with a time for a terminal, without one for journald.

    A thread of its own writes them, since a terminal that was stopped or a pipe that nobody reads would
    otherwise stop the line.
    """
    under_journald = is_journal(sys.stderr.fileno())
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_MOST_WAITING)
    handler = _Dropping(lines)
    handler.addFilter(RateLimit())
    handler.setFormatter(
        logging.Formatter(
            ("" if under_journald else "%(asctime)s ") + "%(levelname)s %(name)s: %(message)s",
            datefmt="%H:%M:%S",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    threading.Thread(target=_write, args=(lines, sys.stderr.fileno(), under_journald), daemon=True).start()
    atexit.register(handler.wait, 0.3)
    if under_journald:
        sys.excepthook = _tell_uncaught


def is_journal(stream: int) -> bool:
    """Whether that file descriptor leads to journald: it says which one does (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(stream)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def line_of(record: logging.LogRecord, for_journal: bool) -> bytes:
    """What is written for a formatted record: always one line, so that no event falls into several."""
    text = " | ".join(part.rstrip() for part in record.getMessage().splitlines() if part.strip())
    level = f"<{_PRIORITIES.get(record.levelno, 6)}>" if for_journal else ""
    return f"{level}{text}\n".encode(errors="replace")


def _tell_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of our own, with its traceback, is one event too."""
    logging.getLogger("line-monitor").critical("ended by a fault", exc_info=(kind, error, trace))


def _write(lines: queue.Queue[logging.LogRecord], stderr: int, for_journal: bool) -> None:
    """Writes lines as they come, past Python's own buffers, whose locks would hold up the exit."""
    while True:
        text = line_of(lines.get(), for_journal)
        # A reader that went away takes its lines with it; there is nobody else to tell.
        with contextlib.suppress(OSError):
            while text:
                text = text[os.write(stderr, text) :]
