"""One line an event on stderr, for journald and for people; a message that repeats is held back.

Must never block a worker and never print a traceback for what a person can fix.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

_WINDOW_NS = 60_000_000_000
_BURST = 5


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


def configure(level: int = logging.INFO) -> None:
    """Sends every logger's lines to stderr: with a time for a terminal, without one for journald."""
    under_journald = "JOURNAL_STREAM" in os.environ
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RateLimit())
    handler.setFormatter(
        logging.Formatter(
            ("" if under_journald else "%(asctime)s ") + "%(levelname)s %(name)s: %(message)s",
            datefmt="%H:%M:%S",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
