"""The rules that make a threshold from the scores of good images, by split conformal prediction.

It knows nothing of images or networks: these are pure functions of scores, and the lines that explain them.

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
_NOTHING_IN_COMMON = 8.0
"""The value of the anomaly map where the vectors of teacher and student are at right angles at all three
levels."""
_BLIND = _NOTHING_IN_COMMON / 2
"""From this threshold on hardly any defect can be rejected. Students after one epoch had mean maps of 2.2 to
6.7."""
_TOO_OFTEN = 0.6
"""The share of images scored in float32 too, above which int8 takes longer than float32 alone: an int8 score
takes about 0.4 of a float32 score's time."""
_TINY = float(np.finfo(np.float32).tiny)
_LEAST_RATE = 1e-9
NO_RATE = "overkill (the share of good parts rejected) is between 0 and 1, at least 1e-9, not {}"


class CalibrationError(LineMonitorError):
    """These images give no threshold. The message is one line with the fix."""


def is_rate(overkill: float) -> bool:
    """Whether `overkill` is a rate that a threshold can be made for."""
    return _LEAST_RATE <= overkill < 1


def rank(count: int, overkill: float) -> int:
    """The rank of the threshold among `count` ascending scores, from 1. Above `count` there are too few.

    Raises ValueError if `overkill` is not a rate.
    """
    if not is_rate(overkill):
        raise ValueError(NO_RATE.format(overkill))
    # The product is rounded first: in binary, (99 + 1) * (1 - 0.01) is slightly above 99.
    return max(1, math.ceil(round((count + 1) * (1 - overkill), 9)))


def images_needed(overkill: float) -> int:
    """The fewest scores that carry the guarantee for this rate: 99 for 0.01."""
    return math.ceil(round(1 / overkill, 9)) - 1


def make_calibration(scores: Sequence[float], overkill: float, ceiling: float = math.inf) -> Calibration:
    """The threshold from the scores of good images (n floats, any order). No score can exceed `ceiling`.

    Raises CalibrationError, ValueError.

    With too few scores for the rate there is no guarantee, and the threshold is an estimate: the largest
    score times a margin. The largest of n scores is exceeded with a probability of 1 / (n + 1). The level
    that is exceeded with the probability r is higher, by as much as if the logarithms of the scores were
    normally distributed with their spread. So the margin shrinks to nothing as n grows to where the guarantee
    begins. A few scores do not show their spread well, so it is averaged with a usual spread. Over
    log-normal, log-logistic and exponential scores the overkill for r = 1 % was 0.5 to 3.5 % with 16 images;
    the largest score alone gives 6 %. A distribution with a fatter tail would come nearer to 1 %, but defects
    of twice the contrast would pass.

    With a ceiling the logarithm of score / (ceiling - score) replaces the logarithm of the score. Far below
    the ceiling the two are the same up to a constant; near it the threshold stays below the ceiling too.
    """
    if not scores:
        raise CalibrationError("no good images to calibrate with")
    ordered = np.sort(np.asarray(scores, np.float64))
    if not np.isfinite(ordered).all() or ordered[0] < 0:
        raise CalibrationError("a calibration score is not finite: train the recipe again")
    count, place = len(ordered), rank(len(ordered), overkill)
    guaranteed = place <= count
    threshold = float(ordered[place - 1]) if guaranteed else _estimate(ordered, overkill, ceiling)
    return Calibration(
        threshold=max(threshold, _TINY),
        overkill=overkill,
        guaranteed=guaranteed,
        scores=tuple(float(score) for score in scores),
    )


def add_overkills(before: Calibration, overkills: Sequence[float], ceiling: float = math.inf) -> Calibration:
    """The calibration with added scores of overkills, which are good parts that the line rejected.

    `overkills` are m floats in any order. `ceiling` is as in `make_calibration`. Raises CalibrationError.

    Overkills were picked because their scores are high, so they are not exchangeable with future good parts,
    and no number of them carries the guarantee. But they can only raise the threshold: the rate of overkill
    that `before` guarantees stays guaranteed, and an estimate stays an estimate. They are stored apart from
    `scores`, which stay a fair sample. Another call adds to the overkills of earlier calls.
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
    positive = np.maximum(scores, _TINY)
    # The lower bound is needed because rounding may lift a score to the ceiling.
    odds = positive / np.maximum(1 - positive / ceiling, _TINY)
    further = float(odds[-1]) * _margin(np.log(odds), overkill)
    return max(further / (1 + further / ceiling), float(scores[-1]))


def _margin(logs: NDArray[np.float64], overkill: float) -> float:
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

    A warning appears when hardly any defect can be rejected, and when int8, whose `pairs` of scores are the
    recipe's, would take longer than float32.
    """
    for key, calibration in calibrations.items():
        yield f"{key}: {explain(calibration)}"
    highest = max(calibration.threshold for calibration in calibrations.values())
    if highest >= _BLIND:
        yield (
            f"warning: the threshold {highest:.4g} is so high that hardly any defect can be rejected (a map "
            f"is at {_NOTHING_IN_COMMON:g} where teacher and student have nothing in common): train with "
            "more epochs, more good images or another --seed"
        )
    eight = calibrations.get(f"{OPENVINO}-{INT8}")
    if eight is not None:
        clear = quick_pass_limit(pairs, eight.threshold)
        again = sum(score > clear for score in eight.scores) / len(eight.scores)
        if again > _TOO_OFTEN:
            yield (
                f"int8: {again:.0%} of these images would be scored a second time in float32, which takes "
                'longer than float32 alone: better not set precision = "int8"'
            )
