"""The clock that decides what is old enough to be deleted, safe against a wrong system time.

Files and rows are deleted by age. A system clock that is set one year ahead by mistake must not delete
everything, so a jump forward counts only one day later. This clock must never be used to date anything.
"""

from __future__ import annotations

from collections.abc import Callable

_HOUR_NS = 3600 * 1_000_000_000
STEP_NS = _HOUR_NS
"""A gain of over one hour on the monotonic clock is a step of the system clock; less is slow drift."""
STEP_ACCEPTED_AFTER_NS = 24 * _HOUR_NS
"""A step that has lasted for one day is correct: a wrong one would have been noticed and undone."""


class RetentionClock:
    """UTC in nanoseconds that follows the system clock, except that a step forward counts only a day later.

    The system clock at the start is taken as correct. `utc_ns` and `monotonic_ns` are the clocks.
    """

    def __init__(self, utc_ns: Callable[[], int], monotonic_ns: Callable[[], int]) -> None:
        self._utc_ns = utc_ns
        self._monotonic_ns = monotonic_ns
        self._offset = utc_ns() - monotonic_ns()
        self._stepped_at: int | None = None

    def now_ns(self) -> int:
        """UTC in nanoseconds. Call it regularly: only the calls in between tell slow drift from a step."""
        monotonic = self._monotonic_ns()
        utc = self._utc_ns()
        if utc - monotonic <= self._offset + STEP_NS:
            self._stepped_at = None
        elif self._stepped_at is None:
            self._stepped_at = monotonic
        stepped_at = self._stepped_at
        if stepped_at is not None and monotonic - stepped_at < STEP_ACCEPTED_AFTER_NS:
            return monotonic + self._offset
        self._stepped_at = None
        self._offset = utc - monotonic
        return utc
