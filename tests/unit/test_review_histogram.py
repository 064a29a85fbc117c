"""The histogram shows every score once, on the right side of the threshold."""

from __future__ import annotations

import math

import numpy as np

from monitor.review.histogram import LEFT, ROW_HEIGHT, WIDTH, plot


def test_every_score_is_in_one_bar_and_no_bar_leaves_the_plot() -> None:
    rng = np.random.default_rng(0)
    scores = {
        "overkill": np.exp(rng.normal(0, 2, 300)).tolist(),
        "defect": np.exp(rng.normal(3, 1, 40)).tolist(),
    }
    drawn = plot({"row": scores, "other": {"passed": [1.0]}}, {"threshold": 2.0})
    assert drawn is not None
    counted = {"overkill": 0, "defect": 0, "passed": 0}
    for bar in drawn.bars:
        counted[bar.kind] += int(bar.title.split()[0])
        assert LEFT <= bar.x < bar.x + bar.width <= LEFT + WIDTH
        assert 0 < bar.height <= ROW_HEIGHT + 1e-9
        assert bar.y >= 0
    assert counted == {"overkill": 300, "defect": 40, "passed": 1}


def test_bars_beyond_the_threshold_stand_right_of_it() -> None:
    drawn = plot({"row": {"low": [1.0] * 5, "high": [4.0] * 5}}, {"threshold": 2.0})
    assert drawn is not None
    limit = drawn.limits[0].x
    for bar in drawn.bars:
        assert (bar.x > limit) == (bar.kind == "high")


def test_scores_that_are_no_numbers_are_left_out_and_nothing_gives_no_plot() -> None:
    assert plot({"row": {"x": [math.nan, -1.0, 0.0, math.inf]}}, {"t": 1.0}) is None
    assert plot({}, {}) is None
    single = plot({"row": {"x": [0.02]}}, {})
    assert single is not None
    assert len(single.bars) == 1
