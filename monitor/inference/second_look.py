"""Second look: which parts an int8 score may pass without a float32 score.

int8 scores rank parts as float32 scores do, but near the threshold some verdicts would differ. A part
therefore passes by its int8 score only if the score is below the threshold by more than the two scores of any
known image differ. Every other part is scored again in float32, and no part is rejected by an int8 score. A
wrong pass would need a larger int8 error than that of any known image. Pure functions of scores; this module
knows nothing of images or networks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from monitor.model.recipe_json import ScorePair

MIN_RATIO = 1.5
"""The limit is at most the threshold divided by this, however well the known pairs agree, because synthetic
defects and good parts may differ from real defects."""
DEVIATIONS = 10
"""The ratio float32 / int8 that the limit allows for: its logarithm may exceed the known pairs' mean by this
many of their upper standard deviations. In four recipes, real images of magnetic tiles needed up to 8; in one
of them (60 images at 64 pixels) the scores differed by a factor of up to 1.92, those of the known pairs by at
most 1.25."""
RESERVE = 1.1
"""A factor on the largest known ratio, because the known pairs are few."""
_MAX_QUICK = 2.0
"""Pairs with an int8 score above this many thresholds are left out. The two scores differ most there, and
both reject the part."""
_MIN_PAIRS = 8


def quick_pass_limit(pairs: Sequence[ScorePair], threshold: float) -> float:
    """The highest int8 score that passes a part without a second look; minus infinity with too few pairs."""
    usable = [(quick, exact) for quick, exact in pairs if 0 < exact < math.inf and 0 < quick < math.inf]
    if len(usable) < max(_MIN_PAIRS, len(pairs)):
        return -math.inf
    near = [exact / quick for quick, exact in usable if quick <= _MAX_QUICK * threshold]
    ratios = near if len(near) >= _MIN_PAIRS else [exact / quick for quick, exact in usable]
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    upper_deviation = math.sqrt(statistics.fmean(max(0.0, log - mean) ** 2 for log in logs))
    margin = max(mean + DEVIATIONS * upper_deviation, max(logs) + math.log(RESERVE), math.log(MIN_RATIO))
    return threshold / math.exp(margin)
