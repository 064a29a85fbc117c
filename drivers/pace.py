"""Delivers stored images at the frame rate of a camera.

It knows nothing of images, only of times. A slow reader delays the schedule, so no image is skipped.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], int]
Sleep = Callable[[float], None]


def wait_until(due_ns: int, timeout_s: float, clock: Clock, sleep: Sleep) -> bool:
    """Sleep until the clock shows `due_ns`, at most `timeout_s`. Returns whether that time has come."""
    give_up_ns = clock() + round(timeout_s * 1e9)
    while (now := clock()) < due_ns:
        if now >= give_up_ns:
            return False
        sleep((min(due_ns, give_up_ns) - now) / 1e9)
    return True


class Pace:
    """Due times at intervals of one period from a fixed start, so that small delays don't add up.

    A reader that is late by a whole period or more moves the schedule to its own time.
    """

    def __init__(self, fps: float, clock: Clock, sleep: Sleep) -> None:
        self.period_ns = round(1e9 / fps)
        self._clock = clock
        self._sleep = sleep
        self._due_ns = clock()

    def wait(self, timeout_s: float, before_ns: int = 0) -> bool:
        """Wait until `before_ns` before the next due time, at most `timeout_s`. Returns whether it came."""
        return wait_until(self._due_ns - before_ns, timeout_s, self._clock, self._sleep)

    def advance(self) -> None:
        """Set the next due time, one period later. Called after each delivered image."""
        self._due_ns += self.period_ns
        now = self._clock()
        if now - self._due_ns >= self.period_ns:
            self._due_ns = now
