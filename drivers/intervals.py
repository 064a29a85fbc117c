"""The usual interval between images, from the last ones.

It knows nothing of what the intervals are of: arrivals or time stamps.
"""

from __future__ import annotations

from collections import deque
from statistics import median

_SAMPLES = 15
_FEWEST = 4


class Intervals:
    """The usual value of the last intervals, and how far they scatter, in nanoseconds."""

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=_SAMPLES)
        self.usual_ns: int | None = None
        self.scatter_ns = 0

    def add(self, interval_ns: int) -> None:
        self._last.append(interval_ns)
        self.usual_ns = usual = round(median(self._last))
        self.scatter_ns = round(median(abs(value - usual) for value in self._last))

    def share_within(self, share: float) -> float:
        """The share of the last intervals that differ from the usual one by at most `share` of it. 1 while
        there are few."""
        if self.usual_ns is None or len(self._last) < _FEWEST:
            return 1.0
        near = sum(abs(value - self.usual_ns) <= share * self.usual_ns for value in self._last)
        return near / len(self._last)
