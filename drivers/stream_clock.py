"""When an image would have reached this machine had nobody kept it waiting.

A stream's own time stamps run on a clock of unknown offset and slightly other speed. The smallest
difference between arrival and stamp seen lately belongs to an image that did not wait; whatever came later
than that did wait, by so much. Pure logic: it must never date an image later than its arrival.
"""

from __future__ import annotations

from collections import deque

_BEHIND_NS = 500_000_000
_PATIENCE_NS = 5_000_000_000
_JUMP_NS = 500_000_000


class StreamClock:
    """Dates images by arrival and stamp, both in nanoseconds, of two clocks.

    The window is how long an undelayed image counts as the reference: long against the stalls to be seen
    through, short against the drift between the clocks (30 s at 500 ppm are 15 ms).
    """

    def __init__(self, window_s: float) -> None:
        self._window_ns = round(window_s * 1e9)
        # (arrival, offset), offsets ascending: the first is the smallest of the window.
        self._offsets: deque[tuple[int, int]] = deque()
        self._stamp_ns: int | None = None
        self._lag_ns = 0
        self._behind_since_ns: int | None = None

    def captured(self, stamp_ns: int | None, arrival_ns: int) -> int:
        """The image's time on the clock of `arrival_ns`; without a stamp that is its arrival."""
        if stamp_ns is None:
            return arrival_ns
        offset = arrival_ns - stamp_ns
        if self._stamp_ns is not None and stamp_ns < self._stamp_ns - _JUMP_NS:
            # The stream's clock was set back. What waited before the jump still waits after it, so the new
            # reference starts with the old lag.
            self._offsets.clear()
            self._offsets.append((arrival_ns, offset - self._lag_ns))
        self._stamp_ns = stamp_ns
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((arrival_ns, offset))
        while arrival_ns - self._offsets[0][0] > self._window_ns:
            self._offsets.popleft()
        self._lag_ns = offset - self._offsets[0][1]
        if self._lag_ns < _BEHIND_NS:
            self._behind_since_ns = None
        elif self._behind_since_ns is None:
            self._behind_since_ns = arrival_ns
        return arrival_ns - self._lag_ns

    def lag_s(self) -> float:
        """How long the latest image had waited."""
        return self._lag_ns / 1e9

    def stuck(self, arrival_ns: int) -> bool:
        """True when images have come late for so long that this is no backlog being worked off.

        Either something on the way keeps them, or the stream's clock was set forth by mistake or stood
        still. A new connection is the cure for all of these.
        """
        return self._behind_since_ns is not None and arrival_ns - self._behind_since_ns > _PATIENCE_NS
