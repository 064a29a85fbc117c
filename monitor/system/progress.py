"""The progress of long work: a bar with the time left on a terminal, plain lines elsewhere.

It draws at most ten times a second, so that it never slows the work down.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from typing import Protocol, TextIO

_BAR = 24
_REDRAW_S = 0.1
_LINE_EVERY_S = 5.0
_WITHIN_EVERY_S = 60.0
"""The pause between lines within one step, for steps that take minutes or hours."""


class Progress(Protocol):
    """The receiver of progress reports."""

    def update(self, task: str, done: float, total: int, note: str = "") -> None:
        """`done` of `total` steps of `task` are finished; the last call of a task has done == total.

        A whole number of steps is an int. A float reports work within a step, for steps that take minutes.
        """

    def make_room(self) -> None:
        """Called before other code writes a line to the same stream."""


class Silent:
    """Shows no progress."""

    def update(self, task: str, done: float, total: int, note: str = "") -> None:
        """Does nothing."""

    def make_room(self) -> None:
        """Does nothing."""


SILENT = Silent()


class Bar:
    """A progress bar on one line of a terminal, redrawn in place."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._time_left = TimeLeft(clock)
        self._drawn = -math.inf

    def update(self, task: str, done: float, total: int, note: str = "") -> None:
        left = self._time_left.text(task, done, total)
        finished = done >= total
        if not finished and self._clock() - self._drawn < _REDRAW_S:
            return
        self._drawn = self._clock()
        filled = int(_BAR * done / max(total, 1))
        text = (
            f"{task} [{'#' * filled}{'.' * (_BAR - filled)}] {_counted(done)}/{total} {left} {note}".rstrip()
        )
        width = shutil.get_terminal_size().columns
        self._stream.write("\r\x1b[K" + text[: width - 1] + ("\n" if finished else ""))
        self._stream.flush()

    def make_room(self) -> None:
        """Erases the bar. The next update draws it again below the other line."""
        if self._drawn > -math.inf:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._drawn = -math.inf


class Lines:
    """Plain lines for logs and pipes: one every 5 s, one a minute within a step, the last of each task."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._time_left = TimeLeft(clock)
        self._written = clock()

    def update(self, task: str, done: float, total: int, note: str = "") -> None:
        left = self._time_left.text(task, done, total)
        pause = _LINE_EVERY_S if isinstance(done, int) else _WITHIN_EVERY_S
        if done < total and self._clock() - self._written < pause:
            return
        self._written = self._clock()
        self._stream.write(f"{task}: {_counted(done)}/{total} {left} {note}".rstrip() + "\n")
        self._stream.flush()

    def make_room(self) -> None:
        """Does nothing: each report is a separate line."""


def choose_progress(stream: TextIO) -> Progress:
    """A bar if `stream` is a terminal, otherwise plain lines."""
    return Bar(stream) if stream.isatty() else Lines(stream)


class TimeLeft:
    """Estimates the time left of the present task from the time that its steps took so far."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._task = ""
        self._began = 0.0
        self._began_at_step = 0.0

    def text(self, task: str, done: float, total: int) -> str:
        """The time left, or the time taken once the task is finished; empty at a task's first report."""
        now = self._clock()
        if task != self._task or done < self._began_at_step:
            self._task, self._began, self._began_at_step = task, now, done
        steps = done - self._began_at_step
        if done >= total:
            return f"in {_duration(now - self._began)}" if steps else ""
        return f"{_duration((now - self._began) / steps * (total - done))} left" if steps else ""


def _counted(done: float) -> str:
    """Rounded down: an unfinished step must not look finished."""
    return str(done) if isinstance(done, int) else f"{math.floor(10 * done) / 10:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
