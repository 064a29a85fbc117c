"""The rules that make a threshold from the scores of good images, by split conformal prediction.

It knows nothing of images or networks: these are pure functions of scores. Some make the lines that explain a
threshold to a person.

With the scores of n parts, one image each, and an overkill rate r (the share of good parts rejected) the
threshold is the score of rank ceil((n + 1)(1 - r)). The guarantee: a new good part's score is above the
threshold with a probability of at most r, on average over calibration sets, and of at least r - 1 / (n + 1)
if no two scores are equal (Vovk et al. 2005; Lei et al. 2018, theorem 2.2).

With several images of some parts, each of n parts weighs 1 / (n + 1), and its images share this weight
evenly. The threshold is the smallest score at or below which the scores weigh at least 1 - r. The same
guarantee holds for one image of a new part (hierarchical conformal prediction: Dunn, Wasserman and Ramdas
2022; Lee, Barber and Willett 2023).

The condition: parts of the calibration and future good parts are exchangeable, which means that any order of
them is equally likely. Consecutive frames of one part are not exchangeable, unless they are known as one
part's. Parts from before a change of the light, the lens or the product are not either. The guarantee makes
no statement about defects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv, rel_entr

from monitor.errors import LineMonitorError
from monitor.evaluation.intervals import CONFIDENCE
from monitor.inference.second_look import quick_pass_limit
from monitor.model.recipe_json import Calibration, ScorePair

USUAL_SPREAD = 0.4
"""The usual standard deviation of the logarithm of good parts' scores."""
USUAL_WEIGHT = 4
"""The usual spread counts as much as this many scores."""
UNRELATED_MAP = 8.0
"""The anomaly map's value where the features of teacher and student are unrelated: their vectors are at right
angles at all three levels."""
_MAX_USEFUL_SHARE = 0.75
"""From this share of the unrelated score on (6 of 8), a threshold rejects hardly any defect. Of students
after one or two epochs, those with thresholds of 6 or more let 90 to 100 % of the defects pass; those with
thresholds of 5 to 6 let 5 to 100 % pass (`tests/benchmarks/README.md`)."""
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


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold follows from scores, as `make_calibration` takes it."""

    overkill: float
    extrapolate: bool = False
    left_out: int = 0


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


def images_needed(overkill: float, left_out: int = 0) -> int:
    """The smallest number of scores with which this rate of overkill is guaranteed: 99 for 0.01.

    `left_out` is as in `make_calibration`.
    """
    return math.ceil(round((left_out + 1) * (1 / overkill - 1), 9))


def useful_parts(count: int, overkill: float, left_out: int = 0) -> int:
    """How many of `count` parts with one image each should calibrate, so that the threshold guarantees just
    this rate.

    With more parts the threshold is the same high score and guarantees less than was asked for: it lets more
    defects pass. With 146 parts and 1 % it is the highest score, which 99 parts need too. All calibrate where
    they are too few. `left_out` is as in `make_calibration`.
    """
    above = math.floor(round((count + left_out + 1) * overkill, 9))
    return math.ceil(round(above / overkill, 9)) - 1 - left_out if above > left_out else count


def guarantee_with(calibration: Calibration, left_out: int) -> float:
    """The rate of overkill that the calibration's threshold guarantees if `left_out` more parts are good ones
    that it rejects."""
    scores = np.asarray(calibration.scores, np.float64)
    shares = _shares(calibration.parts, len(scores))
    total = round(float(shares.sum())) + calibration.left_out + left_out
    passing = float(shares[scores <= calibration.threshold].sum())
    return 1 - passing / (total + 1)


def count_parts(calibration: Calibration) -> int:
    """The number of parts that the calibration's scores are from."""
    return len(set(calibration.parts)) if calibration.parts else len(calibration.scores)


def make_calibration(
    scores: Sequence[float],
    overkill: float,
    ceiling: float = math.inf,
    *,
    parts: Sequence[int] = (),
    extrapolate: bool = False,
    left_out: int = 0,
) -> Calibration:
    """The threshold from the scores of good images (n floats, any order).

    `parts` has the number of each score's part; without it each score is from a part of its own. If there are
    too few parts to guarantee the rate, the threshold is the largest score, which guarantees the smallest
    rate that so many parts can: 1 / (parts + 1). With `extrapolate` it is then an estimate above the largest
    score (`_estimate`). No score can exceed `ceiling`.

    `left_out` good parts were taken out by a person because they look odd. They count as parts above every
    threshold, so that the rate is that of all good parts; the smallest rate is then (left_out + 1) / (parts +
    left_out + 1).

    Raises CalibrationError without scores and for scores that are negative or not finite, and ValueError if
    `overkill` is not a rate or `parts` has another length than `scores`.
    """
    if not scores:
        raise CalibrationError("no good images to calibrate with: give images of good parts")
    values = np.asarray(scores, np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise CalibrationError("a calibration score is negative or not finite: train the recipe again")
    shares = _shares(parts, len(scores))
    count = round(float(shares.sum()))
    together = count + left_out
    guaranteed = rank(together, overkill) <= count
    # With too few parts, all scores together have just the weight that this rate needs.
    guarantee = overkill if guaranteed else (left_out + 1) / (together + 1)
    threshold = _weighted_threshold(values, shares, guarantee, left_out)
    extrapolated = extrapolate and not guaranteed
    if extrapolated:
        highest = values if count == len(values) else _highest_by_part(values, parts)
        threshold = _estimate(np.sort(highest), overkill, ceiling)
    return Calibration(
        threshold=max(threshold, _MIN_THRESHOLD),
        overkill=overkill,
        guaranteed=guaranteed,
        scores=tuple(float(score) for score in scores),
        parts=tuple(parts) if count < len(scores) else (),
        guarantee=guarantee,
        confident=confident_rate(together, guarantee, one_image_a_part=count == len(scores)),
        extrapolated=extrapolated,
        left_out=left_out,
    )


def _shares(parts: Sequence[int], count: int) -> NDArray[np.float64]:
    """The weight of each of `count` scores, in weights of one part."""
    if not parts:
        return np.ones(count)
    if len(parts) != count:
        raise ValueError(f"{len(parts)} numbers of parts for {count} scores")
    _, numbers, sizes = np.unique(np.asarray(parts), return_inverse=True, return_counts=True)
    return 1 / sizes[numbers]


def _weighted_threshold(
    scores: NDArray[np.float64], shares: NDArray[np.float64], overkill: float, left_out: int
) -> float:
    """The smallest score at or below which the scores weigh enough for this rate of overkill."""
    order = np.argsort(scores, kind="stable")
    weights = np.round(np.cumsum(shares[order]), 9)
    # Rounded as in `rank`.
    needed = round((round(weights[-1]) + left_out + 1) * (1 - overkill), 9)
    return float(scores[order[min(np.searchsorted(weights, needed), len(scores) - 1)]])


def _highest_by_part(scores: NDArray[np.float64], parts: Sequence[int]) -> NDArray[np.float64]:
    """The highest score of each part."""
    found, numbers = np.unique(np.asarray(parts), return_inverse=True)
    highest = np.zeros(len(found))
    np.maximum.at(highest, numbers, scores)
    return highest


def confident_rate(count: int, overkill: float, *, one_image_a_part: bool = True) -> float:
    """The rate of overkill that a threshold from `count` parts for the rate `overkill` stays below with 95 %
    confidence.

    The parts must be independent. Where each has one image, the overkill of the threshold of rank k of n has
    at worst a beta distribution with the parameters n - k + 1 and k, and the result is its 95 % quantile. A
    part with several images has a share of them above the threshold, between 0 and 1. How the images of one
    part hang together is not known, so the result is then the highest rate q that Hoeffding's inequality
    (1963, theorem 1) does not exclude: n KL(a, q) = -log(0.05), where a n is the weight that may lie above
    the threshold, and KL is the relative entropy of two coins. The two agree where the threshold is the
    largest score.

    Scores of a memory that holds features of the calibrating parts depend on one another a little. Their rate
    is approximate: 93 % of simulated recipes stayed below it (`tests/benchmarks/README.md`).
    """
    if one_image_a_part:
        place = min(rank(count, overkill), count)
        return float(betaincinv(count - place + 1, place, CONFIDENCE))
    above = max(0.0, 1 - (count + 1) * (1 - overkill) / count)

    def excess(rate: float) -> float:
        entropy = rel_entr(above, rate) + rel_entr(1 - above, 1 - rate)
        return float(count * entropy + math.log(1 - CONFIDENCE))

    almost_one = 1 - 1e-12
    return float(brentq(excess, above, almost_one)) if excess(almost_one) > 0 else 1.0


def calibrate_again(
    before: Calibration,
    overkill: float,
    ceiling: float = math.inf,
    *,
    extrapolate: bool = False,
    as_paper: bool = False,
) -> Calibration:
    """The calibration at another rate of overkill, from the scores that are recorded in `before`.

    It guarantees nothing where these scores can't (`is_guaranteeing`).
    """
    fresh = make_calibration(
        before.scores,
        overkill,
        ceiling,
        parts=before.parts,
        extrapolate=extrapolate,
        left_out=before.left_out,
    )
    found = add_overkills(fresh, before.added, ceiling) if before.added else fresh
    return found if is_guaranteeing(before, as_paper=as_paper) else without_guarantee(found)


def without_guarantee(calibration: Calibration) -> Calibration:
    """The calibration of images that selected the student: it guarantees nothing."""
    return msgspec.structs.replace(calibration, guaranteed=False, guarantee=None, confident=None)


def is_guaranteeing(calibration: Calibration, *, as_paper: bool) -> bool:
    """Whether a threshold from the calibration's scores guarantees a rate. It does not where their images
    selected the student, as in a recipe that was trained `as_paper`; such a calibration records no
    guarantee."""
    return calibration.guaranteed or calibration.guarantee is not None or not as_paper


def is_extrapolated(calibration: Calibration) -> bool:
    """Whether the threshold is an estimate above every good part that it was computed from."""
    is_unguaranteed = calibration.guarantee is None and not calibration.guaranteed
    highest = max(*calibration.scores, *calibration.added, _MIN_THRESHOLD)
    return calibration.extrapolated or (is_unguaranteed and calibration.threshold > highest)


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
    own_parts = range(max(before.parts, default=0) + 1, max(before.parts, default=0) + 1 + len(added))
    together = make_calibration(
        [*before.scores, *added],
        before.overkill,
        ceiling,
        parts=(*before.parts, *own_parts) if before.parts else (),
        extrapolate=is_extrapolated(before),
        left_out=before.left_out,
    )
    return msgspec.structs.replace(
        before, threshold=max(together.threshold, before.threshold), added=tuple(added)
    )


def share_float32_threshold(found: Mapping[str, Calibration]) -> dict[str, Calibration]:
    """The calibrations by runtime and precision, with float32's threshold for int8 on the same runtime.

    float32 judges every image whose int8 score is near the threshold (`monitor.inference.second_look`).
    """
    # Imported here: it imports torch, and pages use the other rules of this module.
    from monitor.inference.backends import F32, INT8

    return {
        key: msgspec.structs.replace(own, threshold=exact.threshold)
        if key.endswith(f"-{INT8}") and (exact := found.get(key.replace(INT8, F32)))
        else own
        for key, own in found.items()
    }


def _estimate(scores: NDArray[np.float64], overkill: float, ceiling: float) -> float:
    """An estimated threshold from ascending scores that are too few for the guarantee; never below the
    largest.

    It is the largest score times a margin. A new good part exceeds the largest of n scores with a probability
    of 1 / (n + 1), which is more than the rate r. The margin is the ratio of two levels: the one that is
    exceeded with probability r, and the one that is exceeded with probability 1 / (n + 1), if the logarithms
    of the scores are normally distributed with the spread of these scores. The margin shrinks to 1 as n grows
    to the number from which on the guarantee holds. A few scores do not show their spread well, so it is
    averaged with a usual spread.

    For log-normal, log-logistic and exponential scores, r = 1 % and 16 images, the overkill was 0.5 to 3.5 %;
    with the largest score as the threshold it is 6 %. If the margin assumed a distribution with more high
    scores than the normal one, the overkill would come nearer to 1 %, but the threshold would be so high that
    defects of twice the contrast would pass.

    With a ceiling the logarithm of score / (ceiling - score) replaces the logarithm of the score. Far below
    the ceiling the two are the same up to a constant; near it the threshold stays below the ceiling too.
    """
    positive = np.maximum(scores, _MIN_THRESHOLD)
    # Rounding may lift a score to the ceiling: the bound then prevents a division by 0.
    odds = positive / np.maximum(1 - positive / ceiling, _MIN_THRESHOLD)
    further = float(odds[-1]) * _margin(np.log(odds), overkill)
    return max(further / (1 + further / ceiling), float(scores[-1]))


def _margin(logs: NDArray[np.float64], overkill: float) -> float:
    """The factor of `_estimate` on the largest score, at least 1; `logs` are the logarithms of all scores."""
    squares = float(((logs - logs.mean()) ** 2).sum())
    freedom = len(logs) - 1
    spread = math.sqrt((USUAL_WEIGHT * USUAL_SPREAD**2 + squares) / (USUAL_WEIGHT + freedom))
    further = NormalDist().inv_cdf(1 - overkill) - NormalDist().inv_cdf(1 - 1 / (len(logs) + 1))
    return math.exp(spread * max(0.0, further))


def format_bound(rate: float) -> str:
    """An upper bound in percent with two digits, rounded up: `1.7 %` for 1 / 61."""
    percent = 100 * rate
    if percent <= 0:
        return "0 %"
    step = 10.0 ** (math.floor(math.log10(percent)) - 1)
    return f"{round(math.ceil(round(percent / step, 6)) * step, 9):g} %"


def explain(calibration: Calibration) -> str:
    """One line about the calibration, for a person."""
    count, asked = count_parts(calibration), f"{100 * calibration.overkill:g} %"
    threshold = f"threshold {calibration.threshold:.4g} from {len(calibration.scores)} calibration images"
    if calibration.parts:
        threshold += f" of {count} parts"
    if calibration.added:
        threshold += f" and {len(calibration.added)} overkills (good parts that the line rejected)"
    if calibration.guaranteed:
        return (
            f"{threshold}: at most {asked} of good parts are rejected (overkill), "
            "if they are like these images"
        )
    if calibration.guarantee is None and not is_extrapolated(calibration):
        return (
            f"{threshold}: an estimate, and too low, because these images selected the student; "
            "`line-monitor calibrate` with new good images can guarantee it"
        )
    more = images_needed(calibration.overkill, calibration.left_out) - count
    needed = (
        "1 more good part that calibrates is" if more == 1 else f"{more} more good parts that calibrate are"
    )
    missing = f"{needed} needed for {asked}"
    if calibration.guarantee is None or is_extrapolated(calibration):
        return f"{threshold}: an estimate above all of them; {missing}"
    return (
        f"{threshold}: at most {format_bound(calibration.guarantee)} of good parts are rejected (overkill), "
        f"if they are like these images; {missing}"
    )


def explain_all(
    calibrations: Mapping[str, Calibration],
    pairs: Sequence[ScorePair] = (),
    unrelated: float = UNRELATED_MAP,
) -> Iterator[str]:
    """Lines for a person: one for all runtimes and precisions with the same threshold, and warnings.

    A warning appears when hardly any defect can be rejected, and when int8 would take longer than float32.
    `pairs` are the recipe's int8 and float32 scores of the same images (`Quantised.pairs`). `unrelated` is
    the score of features that have nothing to do with those of good parts.
    """
    from monitor.inference.backends import INT8, OPENVINO

    keys: dict[str, list[str]] = {}
    for key, calibration in calibrations.items():
        keys.setdefault(explain(calibration), []).append(key)
    for text, same in keys.items():
        yield f"{text} (for {', '.join(same)})"
    highest = max(calibration.threshold for calibration in calibrations.values())
    if highest >= _MAX_USEFUL_SHARE * unrelated:
        yield (
            f"warning: the threshold {highest:.4g} is so high that hardly any defect can be rejected (the "
            f"map is {unrelated:.3g} where features have nothing to do with those of good parts): train with "
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
