"""The rules for restarts: how long the supervisor waits before it starts a dead worker again.

Pure rules over numbers of deaths. They know nothing of processes.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """All times and limits for restarts."""

    first_s: float = 0.0
    then_s: float = 0.5
    most_deaths: int = 5
    window_s: float = 60.0
    failing_s: float = 20.0
    longest_killed_s: float = 5.0
    """The longest wait for a worker that is killed from outside again and again, for example by the kernel
    when memory runs out. After `most_deaths` the line is degraded in this case too, but a longer wait would
    not help."""
    grace_s: float = 3.0
    """The time from the moment at which a worker no longer counts as alive to the moment at which it is
    killed."""
    starting_s: float = 120.0
    """The time that a worker has to start. After it the worker counts as stuck."""
    overdue_s: float = 10.0
    """The time that a kill or a restart may be late. After it the watchdog is no longer fed, and systemd
    restarts the whole service. A killed process can be late to die, for example when a disk hangs."""

    def pause_s(self, deaths: int) -> float:
        """The wait before the next start, by the number of own deaths within the window."""
        if deaths >= self.most_deaths:
            return self.failing_s
        return self.first_s if deaths <= 1 else self.then_s

    def pause_killed_s(self, kills: int) -> float:
        """The wait before the next start, by the number of kills from outside within the window. Such a kill
        does not show a fault of the worker, so the wait stays short."""
        if kills <= 1:
            return self.first_s
        return min(self.longest_killed_s, self.then_s * 2.0 ** min(kills - 2, 10))


def is_killed_from_outside(code: int) -> bool:
    """Whether the exit code shows an end from outside: a signal that no fault of a program causes, or the
    orderly end that follows a request to stop."""
    return code in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
