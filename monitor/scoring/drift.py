"""Whether good parts still look as they did when the recipe was calibrated, from their scores alone.

A lamp that dims, a lens that gathers dust or a camera that was nudged moves the scores of all good parts, up
or down, long before each of them is rejected. So the scores of the last 100 passed parts are compared with
the calibration's by a two-sided rank-sum test (Mann and Whitney 1947), after every 25 judged parts.

The guarantee: at most one false alarm in 100,000 good parts is expected, by Boole's inequality over all
tests, however they depend on each other. It is an average over calibration sets: one that happens to lie
oddly alarms more than once, the most of them never. It holds for any number of calibration scores; with
fewer than five no shift can be told from chance, so these never alarm by it.

Its condition: good parts and calibration images are exchangeable, that is, any order of them would have been
as likely. Consecutive frames of a live view are not, so only `every-part` cameras are watched; nor is a
folder of few images that is played again and again. Rejected defects don't matter while they are no more
than one part in ten; those that pass count as parts that score high.

What it sees: with 60 calibration scores or more, a shift by one of their standard deviations within 150
parts; with 20 every second such shift, with a dozen only larger ones.

Must never decide about a part: drift is for people.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from monitor.model.recipe_document import Calibration
from monitor.verdict import Verdict

WINDOW = 100
"""Parts that are compared with the calibration: passed ones by score, judged ones by verdict."""
TEST_EVERY = 25
"""Judged parts from one test to the next."""
GOOD_PARTS_A_FALSE_ALARM = 100_000

_RULES = 3
"""Scores higher, scores lower, too many rejects: they share what false alarms there may be."""
LEVEL = TEST_EVERY / GOOD_PARTS_A_FALSE_ALARM / _RULES
"""The probability of a false alarm that each rule has at each test."""
LIMIT = NormalDist().inv_cdf(1 - LEVEL)
"""What `rank_sum` must exceed for an alarm."""

_SANE_DEFECTS = WINDOW // 4
"""More rejects than this in a window aren't put down to defects: a line on which one part in ten is
defective comes to this a few times in a million tests. A nudged camera shows only so: parts that come to lie
outside where they lay in training are rejected, and the others score as they did."""
_CALM, _CALM_REJECTS, _CALM_TESTS = 0.5, 0.8, WINDOW // TEST_EVERY
"""An alarm ends when the ranks' evidence and the rejects were below these shares of what raises one for so
many tests in a row: a whole window."""

_Scores = NDArray[np.float64]


class Drift(Enum):
    NONE = 0
    HIGHER = 1
    """Good parts score higher than they did: overkill grows."""
    LOWER = -1
    """Good parts score lower than they did: defects may escape."""


def rank_sum(recent: _Scores, reference: _Scores) -> float:
    """By how many standard deviations `recent` (m,) ranks above `reference` (n,) more than chance has it.

    Of either sign. The variance allows for ties, and half a rank is taken off towards 0, so that a normal
    deviate's tail is no smaller than this one's. 0 when nothing can be said: one is empty, or all are equal.
    """
    m, n = len(recent), len(reference)
    if m == 0 or n == 0:
        return 0.0
    ordered = np.sort(reference)
    below = np.searchsorted(ordered, recent, "left") + np.searchsorted(ordered, recent, "right")
    excess = float(below.sum()) / 2 - m * n / 2
    _, ties = np.unique(np.concatenate([recent, ordered]), return_counts=True)
    total = m + n
    tied = float((ties.astype(np.float64) ** 3 - ties).sum())
    variance = m * n / 12 * (total + 1 - tied / (total * (total - 1)))
    if variance <= 0:
        return 0.0
    return math.copysign(max(0.0, abs(excess) - 0.5) / math.sqrt(variance), excess)


def most_rejects(count: int, kept: int) -> int:
    """The most rejects in a window that neither chance nor a sane rate of defects makes doubtful.

    `kept` of `count` calibration scores lie at or below the threshold. How many of 100 good parts lie above
    the highest of these is a matter of ranks alone, so its distribution is known exactly, whatever the
    scores' is. WINDOW, which no number of rejects exceeds, when the calibration is too small to say.
    """
    if kept == 0:
        return WINDOW
    arrangements = math.comb(WINDOW + count, count)
    allowed, tail = LEVEL * arrangements, 0
    for rejects in range(WINDOW, _SANE_DEFECTS, -1):
        passed = WINDOW - rejects
        tail += math.comb(rejects + count - kept, rejects) * math.comb(passed + kept - 1, passed)
        if tail > allowed:
            return rejects
    return _SANE_DEFECTS


class DriftDetector:
    """Watches one camera's scores. A test takes tens of microseconds, a part between tests less than one."""

    def __init__(self, calibration: Calibration) -> None:
        scores = np.sort(np.asarray(calibration.scores, np.float64))
        kept = scores[scores <= calibration.threshold]
        # Passed parts and calibration images are exchangeable only below one limit for both. Where the
        # threshold is itself a calibration score, that is the limit. Where it is an estimate further on,
        # it cuts off passed parts alone, from above: that can't feign HIGHER, but LOWER needs a limit.
        self._limit = float(kept[-1]) if len(kept) else -math.inf
        self._below_limit = kept[:-1]
        self._for_higher = kept if self._limit < calibration.threshold else self._below_limit
        self._most_rejects = most_rejects(len(scores), len(kept))
        self._calibrated = float(np.median(kept)) if len(kept) else math.nan
        self._passed: deque[float] = deque(maxlen=WINDOW)
        self._rejected: deque[bool] = deque(maxlen=WINDOW)
        self._until_test = TEST_EVERY
        self._calm = 0
        self._drift = Drift.NONE

    @property
    def drift(self) -> Drift:
        return self._drift

    def feed(self, score: float, verdict: Verdict) -> bool:
        """Takes in the next part's score; an uninspected part counts for nothing. Whether `drift` changed."""
        if verdict is Verdict.UNINSPECTED:
            return False
        self._rejected.append(verdict is Verdict.REJECT)
        if verdict is Verdict.PASS:
            self._passed.append(score)
        self._until_test -= 1
        if self._until_test:
            return False
        self._until_test = TEST_EVERY
        before = self._drift
        self._test()
        return self._drift is not before

    def _test(self) -> None:
        passed = np.asarray(self._passed, np.float64)
        rejects = sum(self._rejected)
        higher = rank_sum(passed, self._for_higher)
        lower = -rank_sum(passed[passed <= self._limit], self._below_limit)
        if higher > LIMIT or rejects > self._most_rejects:
            self._drift, self._calm = Drift.HIGHER, 0
        elif lower > LIMIT:
            self._drift, self._calm = Drift.LOWER, 0
        elif self._drift is not Drift.NONE:
            calm = {
                Drift.HIGHER: higher < _CALM * LIMIT and rejects < _CALM_REJECTS * self._most_rejects,
                Drift.LOWER: lower < _CALM * LIMIT,
            }[self._drift]
            self._calm = self._calm + 1 if calm else 0
            if self._calm == _CALM_TESTS:
                self._drift = Drift.NONE

    def evidence(self) -> str:
        """What the camera's scores are now beside what they were, for a person."""
        rejects, judged, passed = sum(self._rejected), len(self._rejected), len(self._passed)
        recent = (
            f"the last {passed} passed parts have a median score of {np.median(self._passed):.4g}"
            if passed
            else "no part passed"
        )
        return (
            f"{recent}, those of the calibration {self._calibrated:.4g}; "
            f"{rejects} of the last {judged} judged parts were rejected"
        )


def explain(camera: str, recipe: str, detector: DriftDetector) -> str:
    """One line for a person on what the camera's drift has become, with what to do about it."""
    if detector.drift is Drift.NONE:
        return f"camera {camera}: scores are as they were at calibration again: {detector.evidence()}"
    risk = {Drift.HIGHER: "good parts may be rejected", Drift.LOWER: "defects may pass"}[detector.drift]
    return (
        f"camera {camera}: scores drift {detector.drift.name.lower()}, {risk}: {detector.evidence()}; "
        "look at lamp, lens, focus and camera position, clean them and set them as they were; "
        f"if parts are meant to look like this now, calibrate or train recipe {recipe} on new good images"
    )
