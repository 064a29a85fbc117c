"""The log on stderr: one line per event, with a level for journald or a time for a terminal.

A message that repeats is limited to five a minute. Messages that differ only in a part's details repeat when
their `extra` has one text as `repeats`. Logging must never block a worker.
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
_WAIT_S = 0.3
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""Python's levels as syslog priorities. journald reads them at the start of a line (sd-daemon(3))."""


class RateLimit(logging.Filter):
    """Passes five equal messages a minute. The first one after that minute states how many were dropped."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.CRITICAL:
            return True
        key = (record.name, getattr(record, "repeats", None) or record.getMessage())
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


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Hands lines to the writing thread. While its queue is full, lines are dropped and counted."""

    def __init__(self, lines: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(lines)
        self._lines = lines
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._dropped:
            record.msg = f"{record.msg} ({self._dropped} lines before this one were lost: stderr was blocked)"
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def wait(self, seconds: float) -> None:
        """Waits until the writing thread has written the last lines, at most for so long."""
        until = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)


def configure(level: int = logging.INFO) -> None:
    """Sends the lines of every logger to stderr: with a time for a terminal, without one for journald.

    A separate thread writes them: a stopped terminal or a full pipe would otherwise block the line.
    """
    under_journald = is_journal(sys.stderr.fileno())
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_MOST_WAITING)
    handler = _BoundedQueueHandler(lines)
    handler.addFilter(RateLimit())
    handler.setFormatter(
        logging.Formatter(
            ("" if under_journald else "%(asctime)s ") + "%(levelname)s %(name)s: %(message)s",
            datefmt="%H:%M:%S",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Pillow logs each chunk of each image that it reads.
    logging.getLogger("PIL").setLevel(logging.WARNING)
    threading.Thread(target=_write, args=(lines, sys.stderr.fileno(), under_journald), daemon=True).start()
    atexit.register(handler.wait, _WAIT_S)
    if under_journald:
        sys.excepthook = _log_uncaught


def wait() -> None:
    """Waits until the lines so far are written, for at most 0.3 s: `os._exit` does not do it by itself."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _BoundedQueueHandler):
            handler.wait(_WAIT_S)


def is_journal(stream: int) -> bool:
    """Whether that file descriptor leads to journald, by $JOURNAL_STREAM (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(stream)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def format_line(record: logging.LogRecord, for_journal: bool) -> bytes:
    """A formatted record as exactly one line: journald would make an event of every line."""
    text = " | ".join(part.rstrip() for part in record.getMessage().splitlines() if part.strip())
    level = f"<{_PRIORITIES.get(record.levelno, 6)}>" if for_journal else ""
    return f"{level}{text}\n".encode(errors="replace")


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Logs an unexpected error with its traceback as one event."""
    logging.getLogger("line-monitor").critical("ended by a fault", exc_info=(kind, error, trace))


def _write(lines: queue.Queue[logging.LogRecord], stderr: int, for_journal: bool) -> None:
    """Writes lines as they come, to the descriptor: the locks of `sys.stderr` would delay the exit."""
    while True:
        text = format_line(lines.get(), for_journal)
        # When the reader of the pipe has gone, the line is lost: there is no other output to use.
        with contextlib.suppress(OSError):
            while text:
                text = text[os.write(stderr, text) :]
        lines.task_done()
