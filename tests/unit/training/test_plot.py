"""The picture of a training shows its curves at their values and marks the kept epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.training.plot import draw_course

MAPS = [10.0 ** -(epoch / 10) for epoch in range(40)]
LOSSES = [2.0 + epoch for epoch in range(40)]


def blue(image: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The rows and columns in the loss curve's colour, below its label."""
    rows, columns = np.nonzero((image[:, :, 0].astype(int) - image[:, :, 2]) > 120)
    inside = rows > 70
    return np.stack([rows[inside], columns[inside]])


def orange(image: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The rows and columns in the map curve's colour, below its label."""
    rows, columns = np.nonzero((image[:, :, 2].astype(int) - image[:, :, 0]) > 120)
    inside = rows > 395
    return np.stack([rows[inside], columns[inside]])


def green(image: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The rows and columns in the colour of the kept epoch's mark."""
    channels = image.astype(int)
    others = np.maximum(channels[:, :, 0], channels[:, :, 2])
    return np.stack(np.nonzero(channels[:, :, 1] - others > 60))


def test_values_over_a_wide_range_are_straight_on_the_logarithmic_scale() -> None:
    rows, columns = orange(draw_course(LOSSES, MAPS, (), 40, "disc"))
    slope, start = np.polyfit(columns, rows, 1)
    assert slope > 0
    assert np.abs(rows - (slope * columns + start)).max() < 12


def test_a_loss_that_rises_is_drawn_rising() -> None:
    rows, columns = blue(draw_course(LOSSES, MAPS, (), 40, "disc"))
    assert np.corrcoef(rows, columns)[0, 1] < -0.9


def test_the_kept_epoch_is_marked_where_it_is() -> None:
    for epoch in (1, 20, 40):
        _, columns = green(draw_course(LOSSES, MAPS, (), epoch, "disc"))
        assert np.median(columns) == pytest.approx(104 + (epoch - 1) / 39 * 752, abs=3)


@pytest.mark.parametrize(
    "values",
    [[0.0], [3.0], [0.0, 0.0, 0.0], [1.0, 0.0], [1e-30, 1e3], [2.0] * 500, [5.0, 5.0001], [1e-12] * 3],
)
def test_every_course_can_be_drawn(values: Sequence[float]) -> None:
    image = draw_course(values, values, (), 1, "")
    assert image.shape == (720, 900, 3)
    rows, _ = green(image)
    assert rows.min() < 350 < 400 < rows.max(), "one mark in each half"
    assert (blue(image).size > 0) == (orange(image).size > 0) == (len(values) > 1), "a line needs two points"


def test_the_trial_has_a_panel_of_its_own_where_it_chose() -> None:
    image = draw_course(LOSSES, MAPS, [0.5 + epoch / 100 for epoch in range(len(LOSSES))], 40, "disc")
    assert image.shape == (1045, 900, 3)
    rows, _ = green(image[720:])
    assert len(rows)
