"""Exact intervals contain the true share as often as they promise, and match published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from monitor.evaluation.intervals import exact_interval


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(0, 10, 0.0, 0.3085), (3, 10, 0.0667, 0.6525), (10, 10, 0.6915, 1.0)]
)
def test_intervals_are_the_tables(count: int, total: int, low: float, high: float) -> None:
    assert exact_interval(count, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_intervals_are_scipys_own(confidence: float) -> None:
    for total in (1, 7, 60, 400):
        for count in {0, 1, total // 3, total - 1, total}:
            theirs = binomtest(count, total).proportion_ci(confidence, method="exact")
            assert exact_interval(count, total, confidence) == pytest.approx(
                (theirs.low, theirs.high), abs=1e-9
            )


@pytest.mark.parametrize("total", [10, 61])
def test_at_least_95_of_100_intervals_contain_the_true_share(total: int) -> None:
    ends = [exact_interval(count, total) for count in range(total + 1)]
    for share in np.linspace(0.005, 0.995, 199):
        chances = binom.pmf(np.arange(total + 1), total, share)
        covered = sum(
            chance for chance, (low, high) in zip(chances, ends, strict=True) if low <= share <= high
        )
        assert covered >= 0.95


@pytest.mark.parametrize(
    ("count", "total", "confidence"), [(0, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0)]
)
def test_a_share_that_cannot_be_has_no_interval(count: int, total: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="no interval for"):
        exact_interval(count, total, confidence)
