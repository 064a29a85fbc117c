"""A memory runs only with arrays that go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monitor.feature_memory.embedding import draw_projection
from monitor.feature_memory.memory import KEPT, PROJECTION, FeatureMemory


def arrays(**wish: np.ndarray) -> dict[str, np.ndarray]:
    return {KEPT: np.ones((5, 8), np.float32), PROJECTION: draw_projection(32, 0, 8).numpy(), **wish}


def test_it_gives_one_distance_for_each_place_of_level_2() -> None:
    levels = [torch.rand(2, channels, side, side) for channels, side in ((4, 16), (12, 8), (20, 4))]
    assert FeatureMemory(arrays(), 12)(levels).shape == (2, 8, 8)


@pytest.mark.parametrize(
    "wish",
    [
        {KEPT: np.ones((5, 9), np.float32)},
        {KEPT: np.ones((0, 8), np.float32)},
        {KEPT: np.ones((5, 8), np.float64)},
        {PROJECTION: np.ones((12, 8), np.float32)},
    ],
)
def test_arrays_that_do_not_go_together_are_refused(wish: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=KEPT):
        FeatureMemory(arrays(**wish), 12)


def test_a_missing_array_is_refused() -> None:
    with pytest.raises(ValueError, match=PROJECTION):
        FeatureMemory({KEPT: arrays()[KEPT]}, 12)
