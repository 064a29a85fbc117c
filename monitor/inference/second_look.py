"""Which of two ways of scoring judges a part: the quick one only when the part is clearly good by it.

8-bit integers rank parts as float32 does, but near the threshold they would judge some otherwise. So a
part passes by its quick score only far below the threshold, further than the two have been seen to lie apart.
All others are looked at again exactly, and nothing is rejected by a quick score. That a part passes which the
exact score would reject is not impossible by that, but takes two scores of one image that lie further apart
than any that were seen. Pure functions of scores.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from monitor.model.recipe_document import Pair

LEAST = 1.5
"""A quick score passes at most at the threshold over this, however well the known pairs agree: drawn defects
and good parts say little of real defects."""
DEVIATIONS = 10
"""So far above its mean may the logarithm of a pair's ratio lie, in deviations of what lies above it. In four
recipes real images of magnetic tiles needed up to 8: in one of 60 images at 64 pixels their scores were up to
1.92 times apart, those of the known pairs 1.25 times at most."""
RESERVE = 1.1
"""The pairs that are known are few: others may lie further apart."""
_REACH = 2.0
"""Pairs count whose quick score is at most this many thresholds: far above, where a defect is plain to both,
the two differ most and it matters least."""
_FEWEST = 8


def clearly_below(pairs: Sequence[Pair], threshold: float) -> float:
    """The highest quick score that passes by itself; minus infinity when too little is known."""
    sound = [(quick, exact) for quick, exact in pairs if 0 < exact < math.inf and 0 < quick < math.inf]
    if len(sound) < max(_FEWEST, len(pairs)):
        return -math.inf
    near = [exact / quick for quick, exact in sound if quick <= _REACH * threshold]
    logs = [math.log(ratio) for ratio in (near if len(near) >= _FEWEST else [e / q for q, e in sound])]
    middle = statistics.fmean(logs)
    above = math.sqrt(statistics.fmean(max(0.0, log - middle) ** 2 for log in logs))
    apart = max(middle + DEVIATIONS * above, max(logs) + math.log(RESERVE), math.log(LEAST))
    return threshold / math.exp(apart)
