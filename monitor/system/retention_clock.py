"""UTC for deciding what is old, by a clock that may be set wrongly while the service runs.

Retention deletes by age. A clock that jumps a year ahead must not make it delete everything, so this module
never believes a jump forward at once; and it must never be used to date anything.
"""

from __future__ import annotations

from collections.abc import Callable

_HOUR_NS = 3600 * 1_000_000_000
STEP_NS = _HOUR_NS
"""A clock that gains more than this on the monotonic clock has been stepped; less is slewing."""
BELIEVED_AFTER_NS = 24 * _HOUR_NS
"""A step that has stood for so long is the truth: a wrong one would have been noticed."""


class BelievedUtc:
    """UTC nanoseconds that follow the system clock, except that a step forward counts only a day later.

    The clock at the start is believed. `utc_ns` and `monotonic_ns` are the clocks, in nanoseconds.
    """

    def __init__(self, utc_ns: Callable[[], int], monotonic_ns: Callable[[], int]) -> None:
        self._utc_ns = utc_ns
        self._monotonic_ns = monotonic_ns
        self._offset = utc_ns() - monotonic_ns()
        self._stepped_at: int | None = None

    def now_ns(self) -> int:
        """UTC nanoseconds. Call it now and then: slow drift is told from a step by the calls between."""
        monotonic = self._monotonic_ns()
        utc = self._utc_ns()
        if utc - monotonic <= self._offset + STEP_NS:
            self._stepped_at = None
        elif self._stepped_at is None:
            self._stepped_at = monotonic
        stepped_at = self._stepped_at
        if stepped_at is not None and monotonic - stepped_at < BELIEVED_AFTER_NS:
            return monotonic + self._offset
        self._stepped_at = None
        self._offset = utc - monotonic
        return utc
