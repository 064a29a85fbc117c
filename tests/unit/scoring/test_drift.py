"""Drift is found when good parts score higher or lower than at calibration, and hardly ever otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.model.recipe_json import Calibration
from monitor.scoring.drift import (
    GOOD_PARTS_A_FALSE_ALARM,
    LEVEL,
    LIMIT,
    TEST_EVERY,
    WINDOW,
    Drift,
    DriftDetector,
    explain,
    most_rejects,
    rank_sum,
)
from monitor.training.thresholds import make_calibration
from monitor.verdict import Reason, Verdict, judge

SPREAD = 0.4


def good(rng: np.random.Generator, count: int, shift: float = 0.0) -> NDArray[np.float64]:
    """Good parts' scores, log-normal; `shift` in standard deviations of their logarithm."""
    return np.exp(SPREAD * (rng.standard_normal(count) + shift))


def calibration(rng: np.random.Generator, count: int = 99, overkill: float = 0.01) -> Calibration:
    return make_calibration(good(rng, count).tolist(), overkill)


def changes(detector: DriftDetector, by: Calibration, scores: Iterable[float]) -> list[tuple[int, Drift]]:
    """Each change of the drift, with the number of parts before it."""
    found = []
    for number, score in enumerate(scores, start=1):
        if detector.feed(score, judge(score, by.threshold)[0]):
            found.append((number, detector.drift))
    return found


def alarms(detector: DriftDetector, by: Calibration, scores: Iterable[float]) -> int:
    return sum(drift is not Drift.NONE for _, drift in changes(detector, by, scores))


def tail_of_rank_sum(recent: int, reference: int) -> float:
    """The exact probability that `rank_sum` exceeds LIMIT without ties, from a count of all arrangements."""
    ways = np.zeros((reference + 1, recent * reference + 1))
    ways[0, 0] = 1.0
    for place in range(1, recent + reference + 1):
        for taken in range(min(place, reference), 0, -1):
            # The reference score number `taken` is at this place, so it has this many recent scores below.
            below = place - taken
            if below <= recent:
                ways[taken, below:] += ways[taken - 1, : ways.shape[1] - below]
    excess = recent * reference / 2 - np.arange(ways.shape[1])
    variance = recent * reference * (recent + reference + 1) / 12
    beyond = (np.abs(excess) - 0.5) / math.sqrt(variance) * np.sign(excess) > LIMIT
    return float(ways[reference, beyond].sum() / math.comb(recent + reference, reference))


@pytest.mark.parametrize("recent", [1, 10, 25, WINDOW])
@pytest.mark.parametrize("reference", [1, 2, 3, 5, 8, 12, 25])
def test_the_rank_test_keeps_its_level_exactly(recent: int, reference: int) -> None:
    assert tail_of_rank_sum(recent, reference) <= LEVEL


def test_the_rank_sum_of_given_numbers_is_that_of_the_textbook() -> None:
    recent, reference = np.array([5.0, 6.0, 7.0, 4.0]), np.array([1.0, 2.0, 3.0])
    # U = 12 of 12, mean 6, variance 4 * 3 * 8 / 12.
    assert rank_sum(recent, reference) == pytest.approx((6 - 0.5) / math.sqrt(8))
    assert rank_sum(reference, recent) == pytest.approx(-(6 - 0.5) / math.sqrt(8))


def test_ties_are_allowed_for() -> None:
    recent, reference = np.array([2.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])
    # U = 3 + 2 wins and 4 half wins = 7 of 9; the groups of equal scores have 1, 4 and 1 members.
    variance = 9 / 12 * (7 - (4**3 - 4) / (6 * 5))
    assert rank_sum(recent, reference) == pytest.approx((2.5 - 0.5) / math.sqrt(variance))


def test_equal_or_missing_scores_are_no_evidence() -> None:
    same = np.full(WINDOW, 0.5)
    assert rank_sum(same, same[:10]) == 0.0
    assert rank_sum(same, same[:0]) == 0.0
    assert rank_sum(same[:0], same) == 0.0


@pytest.mark.parametrize(("count", "overkill"), [(12, 0.01), (40, 0.01), (99, 0.01), (99, 0.2), (300, 0.05)])
def test_good_parts_raise_no_more_false_alarms_than_promised(count: int, overkill: float) -> None:
    rng = np.random.default_rng(count)
    streams, length = 100, 1000
    raised = [
        alarms(DriftDetector(by), by, good(rng, length))
        for by in (calibration(rng, count, overkill) for _ in range(streams))
    ]
    expected = streams * length / GOOD_PARTS_A_FALSE_ALARM
    # Chance exceeds these bounds once in a thousand times.
    assert sum(map(bool, raised)) <= expected + 4
    assert sum(raised) <= expected + 8


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_calibration_scores_never_alarm_wrongly(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(100):
        by = calibration(rng, count)
        assert alarms(DriftDetector(by), by, good(rng, 500)) == 0


@pytest.mark.parametrize(("shift", "drift"), [(1.0, Drift.HIGHER), (-1.0, Drift.LOWER)])
def test_a_shift_of_one_standard_deviation_is_seen_within_150_parts(shift: float, drift: Drift) -> None:
    rng = np.random.default_rng(5)
    seen = 0
    for _ in range(100):
        by = calibration(rng)
        detector = DriftDetector(by)
        changes(detector, by, good(rng, 200))
        changes(detector, by, good(rng, 150, shift))
        seen += detector.drift is drift
    assert seen >= 97


def test_one_defect_in_ten_parts_raises_no_more_false_alarms_than_none_does() -> None:
    rng = np.random.default_rng(6)
    streams, length, alarmed = 100, 1000, 0
    for _ in range(streams):
        by = calibration(rng)
        scores = good(rng, length)
        scores[rng.random(length) < 0.1] *= 10
        alarmed += alarms(DriftDetector(by), by, scores) > 0
    assert alarmed <= streams * length / GOOD_PARTS_A_FALSE_ALARM + 4


def test_drift_is_seen_among_defects() -> None:
    rng = np.random.default_rng(7)
    by = calibration(rng)
    scores = good(rng, 150, 1.0)
    scores[rng.random(150) < 0.1] *= 10
    detector = DriftDetector(by)
    changes(detector, by, scores)
    assert detector.drift is Drift.HIGHER


@pytest.mark.parametrize("before", [0, 200])
def test_when_every_part_is_rejected_it_is_drift(before: int) -> None:
    rng = np.random.default_rng(8)
    by = calibration(rng)
    detector = DriftDetector(by)
    assert changes(detector, by, good(rng, before)) == []
    found = changes(detector, by, 100 * good(rng, 150))
    assert found == [(50, Drift.HIGHER)]
    assert "100 of the last 100 judged parts were rejected" in explain("top", "plate", detector)


def test_rejects_alone_alarm_only_when_the_calibration_is_large_enough() -> None:
    assert most_rejects(1, 1) == most_rejects(2, 2) == WINDOW
    assert WINDOW > most_rejects(3, 3) > most_rejects(8, 8) > most_rejects(20, 20) >= WINDOW // 4
    assert most_rejects(99, 99) == WINDOW // 4
    # Two in five calibration images lie above the threshold, so two in five good parts do too.
    assert most_rejects(100, 60) > 60


@pytest.mark.parametrize(("count", "kept"), [(3, 3), (10, 9), (30, 18)])
def test_chance_alone_gives_more_rejects_no_more_often_than_the_level(count: int, kept: int) -> None:
    limit = most_rejects(count, kept)
    arrangements = math.comb(WINDOW + count, count)

    def tail(rejects: int) -> float:
        """The probability that at least so many parts of the window lie above the highest kept score."""
        ways = sum(
            math.comb(above + count - kept, above) * math.comb(WINDOW - above + kept - 1, kept - 1)
            for above in range(rejects, WINDOW + 1)
        )
        return ways / arrangements

    assert tail(0) == pytest.approx(1.0)
    assert tail(limit + 1) <= LEVEL < tail(limit)


def test_drift_ends_when_scores_have_been_normal_for_a_whole_window() -> None:
    rng = np.random.default_rng(9)
    by = calibration(rng)
    detector = DriftDetector(by)
    assert [drift for _, drift in changes(detector, by, good(rng, 200, 1.5))] == [Drift.HIGHER]
    found = changes(detector, by, good(rng, 400))
    assert [drift for _, drift in found] == [Drift.NONE]
    assert WINDOW <= found[0][0] <= 3 * WINDOW


def test_a_shift_near_the_limit_does_not_switch_the_alarm_on_and_off() -> None:
    rng = np.random.default_rng(10)
    turns = []
    for _ in range(20):
        by = calibration(rng)
        turns.append(len(changes(DriftDetector(by), by, good(rng, 2000, 0.6))))
    assert max(turns) <= 8
    assert np.mean(turns) <= 2.5


def test_uninspected_parts_do_not_count() -> None:
    rng = np.random.default_rng(11)
    by = calibration(rng)
    detector = DriftDetector(by)
    for _ in range(500):
        assert not detector.feed(math.nan, Verdict.UNINSPECTED)
    assert judge(math.nan, by.threshold) == (Verdict.UNINSPECTED, Reason.BAD_SCORE)
    assert changes(detector, by, good(rng, TEST_EVERY - 1, 5.0)) == []


def test_the_message_names_the_camera_the_medians_and_the_fix() -> None:
    rng = np.random.default_rng(12)
    by = calibration(rng)
    detector = DriftDetector(by)
    changes(detector, by, good(rng, 150, -1.0))
    line = explain("top", "plate", detector)
    assert "camera top: scores drift lower, defects may pass" in line
    assert f"{np.median([s for s in by.scores if s <= by.threshold]):.4g}" in line
    assert "lamp" in line
    assert "calibrate or train recipe plate" in line
    assert "\n" not in line
    changes(detector, by, good(rng, 300))
    assert "as they were at calibration again" in explain("top", "plate", detector)


def test_near_copies_in_the_calibration_cause_no_false_alarm() -> None:
    """Five near copies of each of 20 parts look like 100 scores but tell no more than 20."""
    rng = np.random.default_rng(20)
    alarmed = 0
    for _ in range(100):
        scores = np.repeat(good(rng, 20), 5) * rng.uniform(0.999, 1.001, 100)
        by = make_calibration(scores.tolist(), 0.05, parts=[n // 5 for n in range(100)])
        assert by.part_scores == tuple(scores[::5])
        alarmed += alarms(DriftDetector(by), by, good(rng, 500)) > 0
    assert alarmed == 0
