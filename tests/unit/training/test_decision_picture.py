"""The picture of what a recipe's thresholds decide shows good parts, defects, thresholds and what passes."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.model.recipe_json import DefectScores
from monitor.training.decision_picture import draw_decisions
from monitor.training.operating_points import operating_points
from monitor.training.thresholds import make_calibration

GOOD = [1.0 + 0.01 * number for number in range(99)]


def picture(good: list[float], defects: list[float], lowest: int = 0) -> np.ndarray:
    own = make_calibration(good, 0.01)
    points = operating_points(own, DefectScores(known=tuple(defects)))
    shown = [(np.full((40, 60), 200, np.uint8), score) for score in sorted(defects)[:lowest]]
    return draw_decisions(good, defects, points, own.threshold, shown, "disc")


def red_pixels(image: np.ndarray) -> int:
    return int((image == (60, 60, 210)).all(axis=2).sum())


def test_defects_are_shown_apart_from_good_parts() -> None:
    without, with_defects = picture(GOOD, []), picture(GOOD, [1.2, 5.0])
    assert red_pixels(without) == 0
    assert red_pixels(with_defects) > 0


def test_the_defects_with_the_lowest_scores_stand_below_the_histogram() -> None:
    histogram, together = picture(GOOD, [1.2, 5.0]), picture(GOOD, [1.2, 5.0], lowest=2)
    assert (together[: len(histogram)] == histogram).all()
    assert together.shape[0] > histogram.shape[0]
    assert (together[len(histogram) :] == 200).any()


@pytest.mark.parametrize(
    ("good", "defects"),
    [([0.0] * 20, []), ([0.0, 0.0], [0.0]), ([1.0], [1.0]), ([1e-30, 1e30], [1e-3] * 5), ([2.0] * 99, [0.0])],
)
def test_any_scores_that_calibrate_can_be_drawn(good: list[float], defects: list[float]) -> None:
    image = picture(good, defects)
    assert image.dtype == np.uint8
    assert image.shape[1:] == (1024, 3)


def test_every_threshold_has_a_line() -> None:
    image = picture(GOOD, [])
    thresholds = {point.threshold for point in operating_points(make_calibration(GOOD, 0.01), None)}
    # One row of pixels above the bars: every line crosses it.
    assert (image[34 + 56] == (180, 105, 30)).all(axis=1).sum() >= len(thresholds) > 1
