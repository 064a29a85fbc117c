"""One line an event on stderr, for journald and for people; a message that repeats is held back.

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

_WINDOW_NS = 60_000_000_000
_BURST = 5
_MOST_WAITING = 1000


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
    under_journald = "JOURNAL_STREAM" in os.environ
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
    threading.Thread(target=_write, args=(lines, sys.stderr.fileno()), daemon=True).start()
    atexit.register(handler.wait, 0.3)


def _write(lines: queue.Queue[logging.LogRecord], stderr: int) -> None:
    """Writes lines as they come, past Python's own buffers, whose locks would hold up the exit."""
    while True:
        text = (lines.get().getMessage() + "\n").encode(errors="replace")
        # A reader that went away takes its lines with it; there is nobody else to tell.
        with contextlib.suppress(OSError):
            while text:
                text = text[os.write(stderr, text) :]
