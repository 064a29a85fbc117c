"""Dates a stream's images by their arrival alone, for cameras whose time stamps tell nothing
(`?clock=arrival`).

It knows nothing of stamps. An image that comes after a gap, longer than the usual ones, counts as one that
waited through the gap, and the images that then come at once as those behind it: each is dated one usual
interval after the one before. Three images in a row for which the reader had to wait, and of which none came
faster than half the shortest usual interval, end that: an image is dated by its arrival again. So the images
may come at uneven distances.

Limit: a backlog at the camera or in the network that grows slowly, and a camera that sends old images at
about the usual distances after a gap, can't be noticed.
"""

from __future__ import annotations

from drivers.intervals import Intervals

_IN_A_ROW = 3


class ArrivalClock:
    """Like `StreamClock`, without stamps. It is never stuck, and its images are never undated."""

    undated: str | None = None

    def __init__(self) -> None:
        self._arrival_ns: int | None = None
        self._between = Intervals()
        self._row: list[int] = []
        """The distances of the images in a row that show that none lies in a buffer, as far as not learnt."""
        self._in_a_row = _IN_A_ROW
        self._lag_ns = 0

    @property
    def usual_ns(self) -> int | None:
        """The usual time between images; None while it is not known."""
        return self._between.usual_ns

    def captured(
        self, stamp_ns: int | None, arrival_ns: int, waited: bool = True, rested: bool = True
    ) -> int:
        """The image's time on the clock of `arrival_ns`. `stamp_ns` and `rested` are not looked at."""
        last_ns, self._arrival_ns = self._arrival_ns, arrival_ns
        if last_ns is None:
            return arrival_ns
        between = arrival_ns - last_ns
        usual = self._between.usual_ns or between
        before_ns = self._lag_ns
        self._count(between, waited)
        in_order = self._in_a_row >= _IN_A_ROW
        self._lag_ns = 0 if in_order else max(0, before_ns + between - usual)
        if in_order or (waited and before_ns == self._lag_ns == 0):
            for distance in self._row or [between]:
                self._between.add(distance)
            self._row = []
        return arrival_ns - self._lag_ns

    def lag_s(self) -> float:
        """The wait of the latest image in seconds."""
        return self._lag_ns / 1e9

    def stuck(self, arrival_ns: int) -> bool:
        return False

    def _count(self, between: int, waited: bool) -> None:
        """Count the images in a row that show that none lies in a buffer. A gap ends the row, and begins the
        next: if that lasts, the gap was the camera's."""
        if not waited or 2 * between < self._between.short_ns:
            self._row, self._in_a_row = [], 0
            return
        self._row.append(between)
        long_ns = self._between.long_ns
        gap = self._in_a_row >= _IN_A_ROW and long_ns and 2 * between > 3 * long_ns
        self._in_a_row = 0 if gap else self._in_a_row + 1
