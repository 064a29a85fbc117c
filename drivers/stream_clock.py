"""Calculates when a stream's image reached this machine, without the time that it waited in a buffer.

It knows nothing of cameras, only of two clocks. A stream's time stamps come from a clock with an unknown
offset and a slightly different speed. The smallest difference between arrival and stamp in the last seconds
belongs to an image that did not wait; a larger difference is larger by the image's wait. The calculated time
must never be later than the arrival.
"""

from __future__ import annotations

from collections import deque

_BEHIND_NS = 500_000_000
_PATIENCE_NS = 5_000_000_000
_JUMP_NS = 500_000_000


class StreamClock:
    """Calculates the times of images from their arrivals and their stamps, in nanoseconds of two clocks.

    The window is the time for which an image without a wait is the reference. It must be longer than the
    waits that it should detect, and short enough that the clocks' drift stays small (30 s at 500 ppm are 15
    ms).
    """

    def __init__(self, window_s: float) -> None:
        self._window_ns = round(window_s * 1e9)
        # Pairs (arrival, offset) with ascending offsets: the first offset is the smallest in the window.
        self._offsets: deque[tuple[int, int]] = deque()
        self._stamp_ns: int | None = None
        self._lag_ns = 0
        self._behind_since_ns: int | None = None

    def captured(self, stamp_ns: int | None, arrival_ns: int) -> int:
        """The image's time on the clock of `arrival_ns`. For an image without a stamp it is the arrival."""
        if stamp_ns is None:
            return arrival_ns
        offset = arrival_ns - stamp_ns
        if self._stamp_ns is not None and stamp_ns < self._stamp_ns - _JUMP_NS:
            # The stream's clock was set back. Images that waited before the jump still wait after it, so the
            # new reference includes the previous wait.
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
        """The wait of the latest image in seconds."""
        return self._lag_ns / 1e9

    def stuck(self, arrival_ns: int) -> bool:
        """Whether images have been late for 5 s, which is too long for a backlog that shrinks.

        Either the network or the camera delays them all, or the stream's clock jumped forward or stopped. A
        new connection corrects each of these.
        """
        return self._behind_since_ns is not None and arrival_ns - self._behind_since_ns > _PATIENCE_NS
