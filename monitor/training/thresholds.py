"""The rules that make a threshold from the scores of good images, by split conformal prediction.

It knows nothing of images or networks: these are pure functions of scores. Some make the lines that explain a
threshold to a person.

With n calibration scores and an overkill rate r (the share of good parts rejected) the threshold is the score
of rank ceil((n + 1)(1 - r)). The guarantee: a new good part's score is above the threshold with a probability
of at most r, on average over calibration sets, and of at least r - 1 / (n + 1) if no two scores are equal
(Vovk et al. 2005; Lei et al. 2018, theorem 2.2).

The condition: calibration images and future good parts are exchangeable, which means that any order of them
is equally likely. Consecutive frames of one part are not exchangeable, and neither are images from before a
change of the light, the lens or the product. The guarantee makes no statement about defects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.errors import LineMonitorError
from monitor.inference.backends import F32, INT8, OPENVINO
from monitor.inference.second_look import quick_pass_limit
from monitor.model.recipe_json import Calibration, ScorePair

_USUAL_SPREAD = 0.4
"""The usual standard deviation of the logarithm of good parts' scores."""
_USUAL_WEIGHT = 4
"""The usual spread counts as much as this many scores."""
_UNRELATED_MAP = 8.0
"""The anomaly map's value where the features of teacher and student are unrelated: their vectors are at right
angles at all three levels."""
_MAX_USEFUL_THRESHOLD = _UNRELATED_MAP / 2
"""From this threshold on hardly any defect can be rejected. Students after one epoch had mean maps of 2.2 to
6.7."""
_MAX_SECOND_LOOKS = 0.6
"""If a larger share of images than this is scored in float32 too, int8 takes longer than float32 alone: an
int8 score takes about 0.4 of a float32 score's time."""
_MIN_THRESHOLD = float(np.finfo(np.float32).tiny)
"""The smallest normal float32. It keeps thresholds above 0, and also divisors and arguments of logarithms."""
_MIN_OVERKILL = 1e-9
OVERKILL_OUT_OF_RANGE = (
    "overkill (the share of good parts rejected) is between 0 and 1, at least 1e-9, not {}"
)


class CalibrationError(LineMonitorError):
    """These images give no threshold. The message is one line with the fix."""


def is_rate(overkill: float) -> bool:
    """Whether `overkill` is a rate that a threshold can be made for."""
    return _MIN_OVERKILL <= overkill < 1


def rank(count: int, overkill: float) -> int:
    """The rank of the threshold among `count` ascending scores, from 1.

    A rank above `count` means that there are too few scores to guarantee this rate of overkill. Raises
    ValueError if `overkill` is not a rate.
    """
    if not is_rate(overkill):
        raise ValueError(OVERKILL_OUT_OF_RANGE.format(overkill))
    # Floating point makes some products slightly too large, and `ceil` alone would give one rank too many:
    # 150 * (1 - 0.18) gives 123.00000000000001.
    return max(1, math.ceil(round((count + 1) * (1 - overkill), 9)))


def images_needed(overkill: float) -> int:
    """The smallest number of scores with which this rate of overkill is guaranteed: 99 for 0.01."""
    return math.ceil(round(1 / overkill, 9)) - 1


def make_calibration(scores: Sequence[float], overkill: float, ceiling: float = math.inf) -> Calibration:
    """The threshold from the scores of good images (n floats, any order). No score can exceed `ceiling`.

    Raises CalibrationError without scores and for scores that are negative or not finite, and ValueError if
    `overkill` is not a rate.

    With too few scores for the rate r there is no guarantee, and the threshold is an estimate: the largest
    score times a margin. A new good part exceeds the largest of n scores with a probability of 1 / (n + 1),
    which is more than r. The margin is the ratio of two levels: the one that is exceeded with probability r,
    and the one that is exceeded with probability 1 / (n + 1), if the logarithms of the scores are normally
    distributed with the spread of these scores. The margin shrinks to 1 as n grows to the number from which
    on the guarantee holds. A few scores do not show their spread well, so it is averaged with a usual spread.

    For log-normal, log-logistic and exponential scores, r = 1 % and 16 images, the overkill was 0.5 to 3.5 %;
    with the largest score as the threshold it is 6 %. If the margin assumed a distribution with more high
    scores than the normal one, the overkill would come nearer to 1 %, but the threshold would be so high that
    defects of twice the contrast would pass.

    With a ceiling the logarithm of score / (ceiling - score) replaces the logarithm of the score. Far below
    the ceiling the two are the same up to a constant; near it the threshold stays below the ceiling too.
    """
    if not scores:
        raise CalibrationError("no good images to calibrate with: give images of good parts")
    ordered = np.sort(np.asarray(scores, np.float64))
    if not np.isfinite(ordered).all() or ordered[0] < 0:
        raise CalibrationError("a calibration score is negative or not finite: train the recipe again")
    count, place = len(ordered), rank(len(ordered), overkill)
    guaranteed = place <= count
    threshold = float(ordered[place - 1]) if guaranteed else _estimate(ordered, overkill, ceiling)
    return Calibration(
        threshold=max(threshold, _MIN_THRESHOLD),
        overkill=overkill,
        guaranteed=guaranteed,
        scores=tuple(float(score) for score in scores),
    )


def add_overkills(before: Calibration, overkills: Sequence[float], ceiling: float = math.inf) -> Calibration:
    """The calibration with added scores of overkills, which are good parts that the line rejected.

    `overkills` are floats in any order; equal ones are counted once. `ceiling` is as in `make_calibration`.
    Raises CalibrationError for scores that are negative or not finite.

    Overkills were picked because their scores are high, so they are not exchangeable with future good parts,
    and no number of them can give a guarantee. But they can only raise the threshold: the rate of overkill
    that `before` guarantees stays guaranteed, and an estimate stays an estimate. They are stored apart from
    `scores`, which stay a fair sample. A second call keeps the overkills of the first.
    """
    added = sorted({*before.added, *(float(score) for score in overkills)})
    together = make_calibration([*before.scores, *added], before.overkill, ceiling)
    return Calibration(
        threshold=max(together.threshold, before.threshold),
        overkill=before.overkill,
        guaranteed=before.guaranteed,
        scores=before.scores,
        added=tuple(added),
    )


def share_float32_threshold(found: Mapping[str, Calibration]) -> dict[str, Calibration]:
    """The calibrations by runtime and precision, with float32's threshold for int8 on the same runtime.

    float32 judges every image whose int8 score is near the threshold (`monitor.inference.second_look`).
    """
    return {
        key: msgspec.structs.replace(own, threshold=exact.threshold)
        if key.endswith(f"-{INT8}") and (exact := found.get(key.replace(INT8, F32)))
        else own
        for key, own in found.items()
    }


def _estimate(scores: NDArray[np.float64], overkill: float, ceiling: float) -> float:
    """The threshold from ascending scores that are too few for the guarantee; never below the largest."""
    positive = np.maximum(scores, _MIN_THRESHOLD)
    # Rounding may lift a score to the ceiling: the bound then prevents a division by 0.
    odds = positive / np.maximum(1 - positive / ceiling, _MIN_THRESHOLD)
    further = float(odds[-1]) * _margin(np.log(odds), overkill)
    return max(further / (1 + further / ceiling), float(scores[-1]))


def _margin(logs: NDArray[np.float64], overkill: float) -> float:
    """The factor of `_estimate` on the largest score, at least 1; `logs` are the logarithms of all scores."""
    squares = float(((logs - logs.mean()) ** 2).sum())
    freedom = len(logs) - 1
    spread = math.sqrt((_USUAL_WEIGHT * _USUAL_SPREAD**2 + squares) / (_USUAL_WEIGHT + freedom))
    further = NormalDist().inv_cdf(1 - overkill) - NormalDist().inv_cdf(1 - 1 / (len(logs) + 1))
    return math.exp(spread * max(0.0, further))


def explain(calibration: Calibration) -> str:
    """One line about the calibration, for a person."""
    count, percent = len(calibration.scores), 100 * calibration.overkill
    threshold = f"threshold {calibration.threshold:.4g} from {count} calibration images"
    if calibration.added:
        threshold += f" and {len(calibration.added)} overkills (good parts that the line rejected)"
    if calibration.guaranteed:
        return (
            f"{threshold}: at most {percent:g} % of good parts are rejected (overkill), "
            "if they are like these images"
        )
    more = images_needed(calibration.overkill) - count
    if more <= 0:
        return (
            f"{threshold}: an estimate, and too low, because these images selected the student; "
            "`line-monitor calibrate` with new good images can guarantee it"
        )
    return (
        f"{threshold}: an estimate; {more} more good images are needed to guarantee "
        f"{percent:g} % overkill (good parts rejected)"
    )


def explain_all(calibrations: Mapping[str, Calibration], pairs: Sequence[ScorePair] = ()) -> Iterator[str]:
    """Lines for a person: one for each runtime and precision, and warnings.

    A warning appears when hardly any defect can be rejected, and when int8 would take longer than float32.
    `pairs` are the recipe's int8 and float32 scores of the same images (`Quantised.pairs`).
    """
    for key, calibration in calibrations.items():
        yield f"{key}: {explain(calibration)}"
    highest = max(calibration.threshold for calibration in calibrations.values())
    if highest >= _MAX_USEFUL_THRESHOLD:
        yield (
            f"warning: the threshold {highest:.4g} is so high that hardly any defect can be rejected (the "
            f"map is {_UNRELATED_MAP:g} where the features of teacher and student are unrelated): train with "
            "more epochs, more good images or another --seed"
        )
    int8 = calibrations.get(f"{OPENVINO}-{INT8}")
    if int8 is not None:
        limit = quick_pass_limit(pairs, int8.threshold)
        second_looks = sum(score > limit for score in int8.scores) / len(int8.scores)
        if second_looks > _MAX_SECOND_LOOKS:
            yield (
                f"int8: {second_looks:.0%} of these images would be scored a second time in float32, which "
                'takes longer than float32 alone: better not set precision = "int8"'
            )
