"""The usual interval between images, from the last ones.

It knows nothing of what the intervals are of: arrivals or time stamps.
"""

from __future__ import annotations

from collections import deque
from statistics import median

_SAMPLES = 15


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

    @property
    def short_ns(self) -> int:
        """A fifth of the last intervals are shorter. 0 while there are none."""
        return sorted(self._last)[len(self._last) // 5] if self._last else 0

    @property
    def long_ns(self) -> int:
        """A fifth of the last intervals are longer. 0 while there are none."""
        return sorted(self._last)[-1 - len(self._last) // 5] if self._last else 0
