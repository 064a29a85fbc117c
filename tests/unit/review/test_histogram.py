"""The histogram shows every score in one bar, on the correct side of the threshold."""

from __future__ import annotations

import math
import re
from importlib.resources import files
from itertools import combinations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

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


@pytest.mark.parametrize(
    ("least", "most", "limit"), [(2.4, 2.9, 2.76), (0.011, 0.03, 0.02), (0.02, 0.02, 0.02), (1e-3, 40, 0.5)]
)
def test_the_axis_has_numbers_that_stand_where_they_belong(least: float, most: float, limit: float) -> None:
    drawn = plot({"row": {"x": [least, most]}}, {"limit": limit})
    assert drawn is not None
    assert 4 <= len(drawn.ticks) <= 10
    values = [float(tick.text) for tick in drawn.ticks]
    assert values == sorted(set(values))
    # The axis is logarithmic; the limit's line lies on the scale that the ticks define.
    first, line = drawn.ticks[0], drawn.limits[0].x
    scale = (drawn.ticks[-1].x - first.x) / math.log(values[-1] / values[0])
    assert line == pytest.approx(first.x + scale * math.log(limit / values[0]))
    for tick, value in zip(drawn.ticks, values, strict=True):
        assert LEFT <= tick.x <= LEFT + WIDTH
        assert tick.x == pytest.approx(first.x + scale * math.log(value / values[0]))


def test_no_range_of_scores_is_without_numbers() -> None:
    for least in np.geomspace(1e-6, 1e6, 97):
        for ratio in np.geomspace(1.0, 1e7, 53):
            drawn = plot({"row": {"x": [float(least), float(least * ratio)]}}, {})
            assert drawn is not None
            assert len({tick.text for tick in drawn.ticks}) == len(drawn.ticks) >= 3
            assert len(drawn.ticks) <= 14


def test_each_row_says_how_many_parts_its_tallest_bar_has() -> None:
    drawn = plot({"many": {"x": [1.0] * 700, "y": [1.0] * 7}, "few": {"x": [2.0] * 3 + [1.0]}}, {})
    assert drawn is not None
    assert [(row.title, row.tallest) for row in drawn.rows] == [("many", 707), ("few", 3)]


def test_no_two_kinds_of_bars_in_a_row_look_alike() -> None:
    """Colours differ by more than 25 in CIELAB; a difference of 2 is just visible side by side."""
    css = (files("monitor.review") / "static/review.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): #([0-9a-f]{6})", css))
    for row in (("defect", "overkill", "unsure", "unlabelled"), ("calibration", "passed")):
        for one, other in combinations(row, 2):
            apart = np.linalg.norm(lab(colours[one]) - lab(colours[other]))
            assert apart > 25, (one, other, apart)
        for kind in row:
            assert re.search(rf"\.plot (rect)?\.{kind} {{ fill: var\(--{kind}\)", css)
            assert re.search(rf"^\.{kind} {{ color: var\(--{kind}\)", css, re.M), "legend's colour"


def lab(colour: str) -> NDArray[np.float32]:
    rgb = np.array([[[int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]]], np.float32)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)[0, 0]


def test_scores_that_are_no_numbers_are_left_out_and_nothing_gives_no_plot() -> None:
    assert plot({"row": {"x": [math.nan, -1.0, 0.0, math.inf]}}, {"t": 1.0}) is None
    assert plot({}, {}) is None
    single = plot({"row": {"x": [0.02]}}, {})
    assert single is not None
    assert len(single.bars) == 1
