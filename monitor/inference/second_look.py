"""Second look: which parts an int8 score may pass without a float32 score.

It knows nothing of images or networks: these are pure functions of scores.

int8 scores rank parts as float32 scores do, but near the threshold some verdicts would differ. Training
therefore scores some images both ways (the known pairs). A part passes by its int8 score only if the
threshold divided by that score is at least 1.5 and larger than the ratio float32 / int8 of every known pair,
by a reserve. Every other part is scored again in float32, and no part is rejected by an int8 score. A wrong
pass would need a larger ratio than that of every known pair. Pairs with an int8 score above two thresholds
are left out of this comparison if enough others remain.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from monitor.model.recipe_json import ScorePair

MIN_RATIO = 1.5
"""The limit is at most the threshold divided by this, however well the known pairs agree: the known pairs
come from good parts and drawn defects, and real defects may differ from both."""
DEVIATIONS = 10
"""The limit allows for a ratio float32 / int8 whose logarithm lies this many upper standard deviations above
the mean logarithm of the known pairs. For the upper standard deviation, logarithms below the mean count as
equal to it. In four recipes, real images of the magnetic-tile data set needed up to 8 of them; in one of
these recipes (60 images at 64 pixels) their scores differed by a factor of up to 1.92, those of the known
pairs by at most 1.25."""
RESERVE = 1.1
"""A factor on the largest ratio of the known pairs, because the known pairs are few."""
_MAX_THRESHOLDS = 2.0
"""Pairs with an int8 score above this many thresholds are left out if at least `_MIN_PAIRS` others remain.
The two scores differ most there, and both reject the part."""
_MIN_PAIRS = 8
"""The smallest number of known pairs that a limit is computed from."""


def quick_pass_limit(pairs: Sequence[ScorePair], threshold: float) -> float:
    """The highest int8 score that passes a part without a second look.

    It is minus infinity, so that every part gets a second look, with fewer than 8 pairs, and also if any
    score in them is 0, negative or not finite.
    """
    usable = [(quick, exact) for quick, exact in pairs if 0 < exact < math.inf and 0 < quick < math.inf]
    if len(usable) < max(_MIN_PAIRS, len(pairs)):
        return -math.inf
    near = [exact / quick for quick, exact in usable if quick <= _MAX_THRESHOLDS * threshold]
    ratios = near if len(near) >= _MIN_PAIRS else [exact / quick for quick, exact in usable]
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    upper_deviation = math.sqrt(statistics.fmean(max(0.0, log - mean) ** 2 for log in logs))
    margin = max(mean + DEVIATIONS * upper_deviation, max(logs) + math.log(RESERVE), math.log(MIN_RATIO))
    return threshold / math.exp(margin)
