"""The test for drift: whether good parts still score as they did when the recipe was calibrated.

It knows nothing of images or networks, and decides no part's verdict: drift is a message to people.

A dimmer lamp, dust on the lens or a camera that was moved shifts the scores of all good parts, up or down,
before the parts are rejected. So after every 25 judged parts the scores of the last 100 passed parts are
compared with the calibration scores by a two-sided rank-sum test (Mann and Whitney 1947).

The guarantee: at most one false alarm in 100,000 good parts is expected, by Boole's inequality over all
tests, whether or not the tests depend on each other. This is an average over calibration sets: with a few
unusual sets there is more than one false alarm, with most sets none. It holds for any number of calibration
scores; fewer than five can't show a shift, so this test never alarms with them.

The condition: good parts and calibration images are exchangeable, which means that any order of them is
equally likely. Of several calibration images of one part only the first counts. Consecutive frames of a live
view are not exchangeable, so only `every-part` cameras are watched; nor are the images of a small folder that
is played in a loop. Rejected defects cause no false alarm up to one part in ten; defects that pass count as
good parts with a high score.

The power: with 60 or more calibration scores a shift by one of their standard deviations is found within 150
parts; with 20 scores every second such shift is found, with 12 only larger ones.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from monitor.model.recipe_json import Calibration
from monitor.verdict import Verdict

WINDOW = 100
"""The number of last passed parts whose scores are tested, and of last judged parts whose rejects are."""
TEST_EVERY = 25
"""The number of judged parts from one test to the next."""
GOOD_PARTS_A_FALSE_ALARM = 100_000
"""At most one false alarm in so many good parts is expected."""

_RULES = 3
"""Higher scores, lower scores and too many rejects: the three rules share the permitted false alarms."""
LEVEL = TEST_EVERY / GOOD_PARTS_A_FALSE_ALARM / _RULES
"""The probability of a false alarm of each rule in each test."""
LIMIT = NormalDist().inv_cdf(1 - LEVEL)
"""The value of `rank_sum` above which a rule alarms."""

_MOST_DEFECTS = WINDOW // 4
"""The most rejects in a window that are taken for defects: on a line where one part in ten is defective, a
few tests in a million exceed this. Only this rule finds a camera that was moved: parts outside the area where
the parts lay in training are rejected, and the other parts score as before."""
_CALM, _CALM_REJECTS, _CALM_TESTS = 0.5, 0.8, WINDOW // TEST_EVERY
"""An alarm ends when the rank sum and the rejects have been below these shares of their limits for this many
tests in a row, which is a whole window."""

_Scores = NDArray[np.float64]


class Drift(Enum):
    NONE = 0
    HIGHER = 1
    """Good parts score higher than at calibration: more of them are rejected."""
    LOWER = -1
    """Good parts score lower than at calibration: defects may pass."""


def rank_sum(recent: _Scores, reference: _Scores) -> float:
    """Return how far `recent` (m,) ranks above `reference` (n,), in standard deviations; negative for below.

    The variance allows for ties. The sum is moved towards 0 by half a rank (continuity correction), so that a
    normal deviate exceeds any limit at least as often as this value does. 0 without evidence: one of the two
    is empty, or all scores are equal.
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
    """Return the most rejects in a window that chance and a usual rate of defects explain.

    `kept` of `count` calibration scores lie at or below the threshold. How many of 100 good parts lie above
    the highest of these depends on ranks alone, so its distribution is known exactly, whatever the
    distribution of the scores is. When the calibration is too small, the result is WINDOW, which the rejects
    never exceed.
    """
    if kept == 0:
        return WINDOW
    arrangements = math.comb(WINDOW + count, count)
    allowed, tail = LEVEL * arrangements, 0
    for rejects in range(WINDOW, _MOST_DEFECTS, -1):
        passed = WINDOW - rejects
        tail += math.comb(rejects + count - kept, rejects) * math.comb(passed + kept - 1, passed)
        if tail > allowed:
            return rejects
    return _MOST_DEFECTS


class DriftDetector:
    """Watches one camera's scores. A test takes tens of microseconds, a part without a test less than one."""

    def __init__(self, calibration: Calibration) -> None:
        scores = np.sort(np.asarray(calibration.part_scores, np.float64))
        kept = scores[scores <= calibration.threshold]
        # Passed parts and calibration images are exchangeable only below one limit for both. Where the
        # threshold is a calibration score, that score is the limit. Where the threshold is an estimate above
        # all of them, it cuts off only passed parts, and only high ones: this can't cause a false HIGHER, but
        # it can cause a false LOWER, so the test for LOWER uses the highest kept score as the limit.
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
        """Add the next part's score; uninspected parts do not count. Return whether `drift` changed."""
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
        """The camera's recent scores and those of the calibration, as text for a person."""
        rejects, judged, passed = sum(self._rejected), len(self._rejected), len(self._passed)
        recent = (
            f"the last {passed} passed parts have a median score of {np.median(self._passed):.4g}"
            if passed
            else "no part passed"
        )
        return (
            f"{recent}, the calibration images {self._calibrated:.4g}; "
            f"{rejects} of the last {judged} judged parts were rejected"
        )


def explain(camera: str, recipe: str, detector: DriftDetector) -> str:
    """One line for a person with the new state of the camera's drift and the fix."""
    if detector.drift is Drift.NONE:
        return f"camera {camera}: scores are as they were at calibration again: {detector.evidence()}"
    risk = {Drift.HIGHER: "good parts may be rejected", Drift.LOWER: "defects may pass"}[detector.drift]
    return (
        f"camera {camera}: scores drift {detector.drift.name.lower()}, {risk}: {detector.evidence()}; "
        "check lamp, lens, focus and camera position, clean them and set them as they were; "
        f"if parts are meant to look like this now, calibrate or train recipe {recipe} on new good images"
    )
