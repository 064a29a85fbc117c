"""Dates a stream's images by their arrival alone, for cameras whose time stamps tell nothing
(`?clock=arrival`).

It knows nothing of stamps. An image that comes after a gap counts as one that waited through the gap, and the
images that then come at once as those behind it: each is dated one usual interval after the one before. After
three images at the usual distance, for which the reader had to wait, an image is dated by its arrival again.

Limit: a backlog at the camera or in the network that grows slowly, and a camera that sends old images at the
usual distance after a gap, can't be noticed.
"""

from __future__ import annotations

from drivers.intervals import Intervals

_IN_A_ROW = 3
_OTHER_PACE = 25
"""After so many images in a row at one other distance, the camera has another frame rate."""


class ArrivalClock:
    """Like `StreamClock`, without stamps. It is never stuck, and its images are never undated."""

    undated: str | None = None

    def __init__(self) -> None:
        self._arrival_ns: int | None = None
        self._between = Intervals()
        self._other = Intervals()
        self._in_a_row = self._others = 0
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
        if waited and 2 * abs(between - usual) <= usual:
            self._between.add(between)
            self._in_a_row, self._others = self._in_a_row + 1, 0
        else:
            self._in_a_row = 0
            self._note_other(between, waited)
        self._lag_ns = max(0, self._lag_ns + between - usual)
        if self._in_a_row >= _IN_A_ROW:
            self._lag_ns = 0
        return arrival_ns - self._lag_ns

    def lag_s(self) -> float:
        """The wait of the latest image in seconds."""
        return self._lag_ns / 1e9

    def stuck(self, arrival_ns: int) -> bool:
        return False

    def _note_other(self, between: int, waited: bool) -> None:
        """Take over another frame rate once it has lasted."""
        self._others = self._others + 1 if waited else 0
        if self._others == 1:
            self._other = Intervals()
        self._other.add(between)
        if self._others >= _OTHER_PACE and self._other.share_within(0.3) >= 0.8:
            self._between, self._others = self._other, 0
