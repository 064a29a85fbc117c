"""Which of two ways of scoring judges a part: the quick one only when the part is clearly good by it.

8-bit integers rank parts as float32 does, but near the threshold they would judge some otherwise. So a
part passes by its quick score only far below the threshold, further than the two have been seen to lie apart.
All others are looked at again exactly, and nothing is rejected by a quick score. That a part passes which the
exact score would reject is not impossible by that, but takes two scores of one image that lie further apart
than any that were seen. Pure functions of scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LEAST = 2.0
"""A quick score passes at most at this fraction of the threshold, however well the known pairs agree: drawn
defects and good parts say little of real defects. In a recipe of 60 images at 64 pixels the scores of real
ones lay up to 1.93 times apart, those of the known pairs 1.25 times."""
RESERVE = 1.1
"""The pairs that are known are few: others may lie further apart."""
_REACH = 2.0
"""Pairs count whose quick score is at most this many thresholds: far above, where a defect is plain to both,
the two differ most and it matters least."""
_FEWEST = 8

Pair = tuple[float, float]
"""One image's quick and exact score."""


def clearly_below(pairs: Sequence[Pair], threshold: float) -> float:
    """The highest quick score that passes by itself; minus infinity when too little is known."""
    sound = [(quick, exact) for quick, exact in pairs if math.isfinite(exact) and 0 < quick < math.inf]
    if len(sound) < max(_FEWEST, len(pairs)):
        return -math.inf
    near = [exact / quick for quick, exact in sound if quick <= _REACH * threshold]
    ratios = near if len(near) >= _FEWEST else [exact / quick for quick, exact in sound]
    return threshold / max(LEAST, RESERVE * max(ratios))
