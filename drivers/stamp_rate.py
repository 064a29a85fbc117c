"""Learns how fast a stream's time stamps run beside this machine's clock, from spans without a stall.

It knows nothing of images or of stalls: `StreamClock` decides which offsets (arrival less stamp) count. A
backlog that grows slowly looks like a slow clock, so the limits of the rate only ever become narrower: what
was learnt early holds, and a growth that starts later is not taken for the clock.
"""

from __future__ import annotations

from collections import deque
from math import sqrt
from statistics import median

_BLOCK_NS = 400_000_000
_FEWEST_IMAGES = 3
_FEWEST_BLOCKS = 4
_SCATTERS = 15
_LEAST_NOISE_NS = 1_000_000
_WANDER = 1e-4
"""A camera's clock changes its speed by less than this (100 ppm) while it warms up."""


class StampRate:
    """`rate` is by how much more time passes here than the stamps say: 0.01 for stamps that run 1 % slow.

    The lowest offset of each 0.4 s belongs to the image that jitter delayed least. A straight line through
    these has the slope `rate`.
    """

    def __init__(self, window_s: float) -> None:
        self._blocks: deque[tuple[int, int]] = deque(maxlen=max(round(window_s * 1e9) // _BLOCK_NS, 8))
        self._began_ns = 0
        self._lowest: tuple[int, int] | None = None
        self._highest_ns = 0
        self._scatters: deque[tuple[int, int]] = deque(maxlen=_SCATTERS)
        """For each of the last blocks how long it was, and how far its offsets were apart."""
        self._images = 0
        self._limits: tuple[float, float] | None = None
        self.rate = 0.0

    @property
    def is_known(self) -> bool:
        return self._limits is not None

    def add(self, stamp_ns: int, offset_ns: int, bound: float) -> int | None:
        """Take the offset of an image that did not wait. `bound` is the largest rate, of either sign.

        Returns how far the offset lies above the line through the lowest ones, at the end of each 0.4 s;
        otherwise None.
        """
        above = None
        full = self._images >= _FEWEST_IMAGES and stamp_ns - self._began_ns >= _BLOCK_NS
        if self._lowest is not None and full:
            self._blocks.append(self._lowest)
            self._scatters.append((stamp_ns - self._began_ns, self._highest_ns - self._lowest[1]))
            self._learn(bound)
            above = self._compare(stamp_ns, offset_ns) if self._limits else None
            self._lowest = None
        if self._lowest is None:
            self._began_ns, self._images = stamp_ns, 0
            self._lowest, self._highest_ns = (stamp_ns, offset_ns), offset_ns
        elif offset_ns < self._lowest[1]:
            self._lowest = stamp_ns, offset_ns
        self._highest_ns = max(self._highest_ns, offset_ns)
        self._images += 1
        return above

    def forget_offsets(self) -> None:
        """Begin the span anew. The limits hold."""
        self._blocks.clear()
        self._lowest = None

    def _learn(self, bound: float) -> None:
        count = len(self._blocks)
        if count < _FEWEST_BLOCKS:
            return
        slope, farthest_ns = fit_line(list(self._blocks))
        span_ns = self._blocks[-1][0] - self._blocks[0][0]
        # While there are few blocks their distance from the line understates the noise.
        scatter_ns = median(apart - abs(slope) * long for long, apart in self._scatters)
        noise_ns = max(_LEAST_NOISE_NS, (1 + 12 / count) * farthest_ns, scatter_ns / 2)
        # The slope's standard error is sqrt(12 / count) times the noise's standard deviation, over the span.
        # The largest distance is about 2.5 standard deviations, so that twice it gives 5 standard errors,
        # which also covers delays that last for some blocks.
        doubt = min(3, 2 * sqrt(12 / count)) * noise_ns / span_ns + _WANDER
        if self._limits is None and abs(slope) > bound:
            return
        low, high = self._limits or (-bound, bound)
        self._limits = max(low, min(slope - doubt, high)), min(high, max(slope + doubt, low))
        # Most clocks are right: a slope far below the doubt is more likely noise.
        likely = slope**3 / (slope**2 + (doubt / 3) ** 2)
        self.rate = min(max(likely, self._limits[0]), self._limits[1])

    def _compare(self, stamp_ns: int, offset_ns: int) -> int:
        line = min(offset + round(self.rate * (stamp_ns - stamp)) for stamp, offset in self._blocks)
        return max(0, offset_ns - line)


def fit_line(points: list[tuple[int, int]]) -> tuple[float, float]:
    """The slope of the straight line through the points by least squares, and the largest distance from
    it."""
    x0, y0 = points[0]
    xs, ys = [float(x - x0) for x, _ in points], [float(y - y0) for _, y in points]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    if spread == 0:
        return 0.0, 0.0
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    return slope, max(abs(y - y_mean - slope * (x - x_mean)) for x, y in zip(xs, ys, strict=True))
