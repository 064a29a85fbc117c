"""A memory's map has a bound, which follows from how its levels are compared."""

from __future__ import annotations

import msgspec
import pytest
import torch

from monitor.feature_memory.embedding import draw_projection
from monitor.feature_memory.memory import KEPT, PROJECTION, FeatureMemory
from monitor.model.memory_level import (
    FIRST_MEMORY_LEVELS,
    MEMORY_LEVELS,
    MemoryLevel,
    are_complete,
    farthest_product,
)


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


@pytest.mark.parametrize(
    ("levels", "are_whole"),
    [
        pytest.param(MEMORY_LEVELS, True, id="new recipes"),
        pytest.param(FIRST_MEMORY_LEVELS, True, id="the first recipes"),
        pytest.param(MEMORY_LEVELS[:2], False, id="a level is missing"),
        pytest.param((*MEMORY_LEVELS[:2], MemoryLevel(side=3, stride=5, square_roots=0)), False, id="a gap"),
        pytest.param((*MEMORY_LEVELS[:2], MemoryLevel(side=4, stride=1, square_roots=0)), False, id="uneven"),
    ],
)
def test_damaged_levels_are_told(levels: tuple[MemoryLevel, ...], are_whole: bool) -> None:
    assert are_complete(levels) == are_whole


@pytest.mark.parametrize(
    "text",
    [
        '{"side": 0, "stride": 1, "square_roots": 0}',
        '{"side": 3, "stride": 1, "square_roots": 9}',
        '{"side": 1000000000000, "stride": 1, "square_roots": 0}',
        '{"side": 3, "stride": 1, "square_roots": 0, "smallest": 1e300}',
    ],
)
def test_a_level_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=MemoryLevel)
