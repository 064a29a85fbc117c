"""A memory's map has a bound, which follows from how its levels are compared."""

from __future__ import annotations

import pytest
import torch

from monitor.feature_memory.embedding import draw_projection
from monitor.feature_memory.memory import KEPT, PROJECTION, FeatureMemory
from monitor.model.memory_level import FIRST_MEMORY_LEVELS, MEMORY_LEVELS, MemoryLevel, farthest_product


@pytest.mark.parametrize("compared", [MEMORY_LEVELS, FIRST_MEMORY_LEVELS])
def test_opposite_vectors_reach_the_farthest_product(compared: tuple[MemoryLevel, ...]) -> None:
    """Without a projection to fewer dimensions, a level of -1 against a feature of +1 everywhere."""
    channels, arrays = (4, 4, 4), {}
    for kept, projection in zip(KEPT, PROJECTION, strict=True):
        matrix = draw_projection(4, 0, 4)
        arrays[projection] = matrix.numpy()
        arrays[kept] = (torch.full((1, 4), 0.5) @ matrix).numpy()
    levels = [-torch.ones(1, 4, side, side) for side in (8, 4, 2)]
    found = FeatureMemory(arrays, channels, compared)(levels)
    assert found.max().item() == pytest.approx(farthest_product(compared), rel=1e-4)
