"""Second look: which parts a quick score (bfloat16, int8) may pass without a float32 score.

It knows nothing of images or networks: these are pure functions of scores.

Quick scores rank parts as float32 scores do, but near the threshold some verdicts would differ. Training
therefore scores some images both ways (the known pairs). A part passes by its quick score only if the
threshold divided by that score is larger than the ratio float32 / quick of every known pair, by a reserve,
and at least the rule's smallest margin. Every other part is scored again in float32, and no part is rejected
by a quick score. A wrong pass would need a larger ratio than that of every known pair. Pairs with a quick
score above two thresholds are left out of this comparison if enough others remain.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from monitor.model.recipe_json import FirstLook, ScorePair


@dataclass(frozen=True)
class MarginRule:
    """How far below the threshold a quick score must lie, by the known pairs of its precision."""

    min_ratio: float
    """The limit is at most the threshold divided by this, however well the known pairs agree: the known pairs
    come from good parts and drawn defects, and real defects may differ from both."""
    deviations: float
    """The limit allows for a ratio float32 / quick whose logarithm lies this many upper standard deviations
    above the mean logarithm of the known pairs. For the upper standard deviation, logarithms below the mean
    count as equal to it."""
    reserve: float
    """A factor on the largest ratio of the known pairs, because the known pairs are few."""


INT8_RULE = MarginRule(min_ratio=1.5, deviations=10, reserve=1.1)
"""In four recipes, real images of the magnetic-tile data set needed up to 8 deviations; in one of these
recipes (60 images at 64 pixels) their scores differed by a factor of up to 1.92, those of the known pairs by
at most 1.25."""
BF16_RULE = MarginRule(min_ratio=1.06, deviations=10, reserve=1.03)
"""A bfloat16 number has 8 significant bits, so one rounding changes it by at most 0.4 %. The ratios of real
images are in `tests/benchmarks/README.md`."""
_MAX_THRESHOLDS = 2.0
"""Pairs with a quick score above this many thresholds are left out if at least `_MIN_PAIRS` others remain.
The two scores differ most there, and both reject the part."""
_MIN_PAIRS = 8
"""The smallest number of known pairs that a limit is computed from."""


def quick_pass_limit(pairs: Sequence[ScorePair], threshold: float, rule: MarginRule = INT8_RULE) -> float:
    """The highest quick score that passes a part without a second look.

    It is minus infinity, so that every part gets a second look, with fewer than 8 pairs, and also if any
    score in them is 0, negative or not finite.
    """
    return _limit(threshold, _margin(pairs, threshold, rule))


def first_look_limit(found: FirstLook | None, threshold: float) -> float:
    """The highest bfloat16 score that passes a part without a second look.

    It is minus infinity without usable pairs. A recipe with a student and a memory has pairs of each of them
    too, and the widest margin counts: a real defect may show in one of them alone, more than any drawn one.
    """
    if found is None:
        return -math.inf
    margins = [_margin(found.pairs, threshold, BF16_RULE)]
    margins += [_margin(alone, math.inf, BF16_RULE) for alone in (found.student, found.memory) if alone]
    return _limit(threshold, max(margins))


def _limit(threshold: float, margin: float) -> float:
    return -math.inf if margin == math.inf else threshold / margin


def _margin(pairs: Sequence[ScorePair], threshold: float, rule: MarginRule) -> float:
    """What the threshold is divided by; infinity where the pairs are too few or unusable."""
    usable = [(quick, exact) for quick, exact in pairs if 0 < exact < math.inf and 0 < quick < math.inf]
    if len(usable) < max(_MIN_PAIRS, len(pairs)):
        return math.inf
    near = [exact / quick for quick, exact in usable if quick <= _MAX_THRESHOLDS * threshold]
    ratios = near if len(near) >= _MIN_PAIRS else [exact / quick for quick, exact in usable]
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    upper_deviation = math.sqrt(statistics.fmean(max(0.0, log - mean) ** 2 for log in logs))
    widest = max(mean + rule.deviations * upper_deviation, max(logs) + math.log(rule.reserve))
    return max(math.exp(widest), rule.min_ratio)
