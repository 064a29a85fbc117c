"""The rate of stamps is learnt from the images that jitter delayed least, and only becomes narrower."""

from __future__ import annotations

import random

import pytest

from drivers.stamp_rate import StampRate, fit_line

S = 1_000_000_000
MS = 1_000_000
BOUND = 0.06


def feed(rate: StampRate, true_rate: float, begin_s: float, end_s: float, jitter_ms: float = 0) -> None:
    chance = random.Random(3)
    for stamp in range(round(begin_s * S), round(end_s * S), 40 * MS):
        rate.add(stamp, round(true_rate * stamp + chance.uniform(0, jitter_ms) * MS), BOUND)


@pytest.mark.parametrize("true_rate", [0.0, 0.05, -0.05, 0.0005])
def test_the_rate_is_known_after_two_seconds_and_exact_after_a_minute(true_rate: float) -> None:
    rate = StampRate(120)
    feed(rate, true_rate, 0, 1.5, jitter_ms=10)
    assert not rate.is_known
    feed(rate, true_rate, 1.5, 2.5, jitter_ms=10)
    assert rate.is_known
    assert rate.rate == pytest.approx(true_rate, abs=0.01)
    feed(rate, true_rate, 2.5, 60, jitter_ms=10)
    assert rate.rate == pytest.approx(true_rate, abs=0.0003)


def test_what_was_learnt_holds() -> None:
    rate = StampRate(120)
    feed(rate, 0.0, 0, 30)
    held = rate.rate
    for stamp in range(30 * S, 120 * S, 40 * MS):
        rate.add(stamp, round(0.01 * (stamp - 30 * S)), BOUND)
    assert abs(rate.rate - held) < 0.001


def test_a_rate_beyond_the_bound_is_not_learnt() -> None:
    rate = StampRate(120)
    feed(rate, 0.1, 0, 30)
    assert not rate.is_known


def test_an_image_above_the_lowest_ones_has_waited_by_that() -> None:
    rate = StampRate(120)
    feed(rate, 0.02, 0, 10)
    shown = [
        rate.add(stamp, round(0.02 * stamp) + 30 * MS, BOUND) for stamp in range(10 * S, 11 * S, 40 * MS)
    ]
    assert next(above for above in shown if above is not None) == pytest.approx(30 * MS, abs=MS)


def test_a_line_through_points() -> None:
    assert fit_line([(0, 0), (10, 5), (20, 10)]) == (0.5, 0.0)
    assert fit_line([(3, 1), (3, 5)]) == (0.0, 0.0)
