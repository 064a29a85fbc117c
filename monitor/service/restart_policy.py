"""The rules for restarts: how long the supervisor waits before it starts a dead worker again.

They know nothing of processes: they are pure functions of the number of deaths.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """All times and limits for restarts."""

    first_s: float = 0.0
    """The wait after the first death within the window."""
    then_s: float = 0.5
    """The wait after the next deaths, below `most_deaths`, and after the second kill from outside. Each
    further kill doubles it, up to `longest_killed_publisher_s` or `longest_killed_s`."""
    most_deaths: int = 5
    """The number of deaths within the window from which a worker counts as failing."""
    window_s: float = 60.0
    failing_s: float = 20.0
    """The wait after each own death of a failing worker."""
    longest_killed_publisher_s: float = 0.5
    """The longest wait for a publisher that is repeatedly killed from outside. Without a publisher no part
    gets a verdict, and rejects are missed after `actuate_ms`."""
    longest_killed_s: float = 5.0
    """The longest wait for another worker that is repeatedly killed from outside, for example by the kernel
    when memory runs out. From `most_deaths` kills on the worker counts as failing too, but a longer wait does
    not help."""
    grace_s: float = 3.0
    """The time for which a worker may no longer count as alive before it is killed."""
    stopped_s: float = 0.7
    """The time for which a process may be stopped by a signal before it is killed. The kernel reports this
    state at once and for no other reason, so a busy machine can't look like it. A tool may stop a process for
    a moment."""
    starting_s: float = 120.0
    """The time that a worker may take to start. After it the worker counts as stuck."""
    overdue_s: float = 10.0
    """The time by which a kill or a restart may be late. After it the watchdog is no longer fed, and systemd
    restarts the whole service. A killed process can take long to end, for example when a disk hangs."""

    def pause_s(self, deaths: int) -> float:
        """The wait before the next start, by the number of own deaths within the window."""
        if deaths >= self.most_deaths:
            return self.failing_s
        return self.first_s if deaths <= 1 else self.then_s

    def pause_killed_s(self, kills: int, *, is_publisher: bool = False, at_once: bool = False) -> float:
        """The wait before the next start, by the number of kills from outside within the window. Such a kill
        does not show a fault of the worker, so the wait stays short.

        `at_once` is for a start that can't fill the processor before the worker counts as failing: a spare is
        ready, or a signal had stopped the process, which takes `stopped_s` to be noticed.
        """
        if kills <= 1 or (at_once and kills < self.most_deaths):
            return self.first_s
        longest_s = self.longest_killed_publisher_s if is_publisher else self.longest_killed_s
        return min(longest_s, self.then_s * 2.0 ** min(kills - 2, 10))


class StopWatch:
    """Tells since when a process has been stopped by a signal."""

    def __init__(self) -> None:
        self._pid = 0
        self._since_ns: int | None = None

    def stopped_for_ns(self, pid: int, is_stopped: bool, now_ns: int) -> int:
        """How long that process has been stopped, by what this watch has seen: 0 while it is not. Call it
        again and again with its present state."""
        if not is_stopped:
            self._since_ns = None
        elif self._since_ns is None or pid != self._pid:
            self._since_ns = now_ns
        self._pid = pid
        return 0 if self._since_ns is None else now_ns - self._since_ns


class HoldWatch:
    """Tells whether the supervisor itself was held between two looks at its workers.

    A paused virtual machine or a frozen container stops supervisor and workers together. What the supervisor
    saw before the break says nothing about a worker after it: each needs time to report that it is alive.
    """

    def __init__(self) -> None:
        self._looked_ns: int | None = None
        self.since_ns = 0
        """The first look after the last break; 0 if there was none."""

    def look(self, now_ns: int, longest_ns: int) -> bool:
        """Notes a look. Returns whether more than `longest_ns` have passed since the one before."""
        held = self._looked_ns is not None and now_ns - self._looked_ns > longest_ns
        if held:
            self.since_ns = now_ns
        self._looked_ns = now_ns
        return held


def is_killed_from_outside(code: int) -> bool:
    """Whether the exit code shows an end from outside: a signal that no fault of a program causes, or the
    orderly end that follows a request to stop."""
    return code in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
