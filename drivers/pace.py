"""Gives stored images the rhythm of a camera.

Nothing stored is lost to a slow reader: the rhythm waits for it. It must never sleep longer than asked.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], int]
Sleep = Callable[[float], None]


def wait_until(due_ns: int, timeout_s: float, clock: Clock, sleep: Sleep) -> bool:
    """Sleeps until `due_ns` of the clock, at most `timeout_s`; True when it is due."""
    give_up_ns = clock() + round(timeout_s * 1e9)
    while (now := clock()) < due_ns:
        if now >= give_up_ns:
            return False
        sleep((min(due_ns, give_up_ns) - now) / 1e9)
    return True


class Pace:
    """Due times one period apart on an absolute schedule, so that small delays don't add up.

    A reader that is late by a whole period or more moves the schedule: images on a disk wait for it.
    """

    def __init__(self, fps: float, clock: Clock, sleep: Sleep) -> None:
        self.period_ns = round(1e9 / fps)
        self._clock = clock
        self._sleep = sleep
        self._due_ns = clock()

    def wait(self, timeout_s: float) -> bool:
        """Waits for the next image's time; True when it has come."""
        return wait_until(self._due_ns, timeout_s, self._clock, self._sleep)

    def advance(self) -> None:
        """The image was handed out: the next is due one period later."""
        self._due_ns += self.period_ns
        now = self._clock()
        if now - self._due_ns >= self.period_ns:
            self._due_ns = now
