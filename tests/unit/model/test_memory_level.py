"""A memory's map has a bound, which follows from how its levels are compared."""

from __future__ import annotations

import msgspec
import pytest
import torch

from monitor.feature_memory.embedding import draw_projection
from monitor.feature_memory.memory import FeatureMemory, kept_name, projection_name
from monitor.model.memory_level import (
    FIRST_MEMORY_LEVELS,
    MEMORY_LEVELS,
    MemoryLevel,
    are_complete,
    farthest_product,
    numbers_of,
)


def _level(number: int, side: int, stride: int) -> MemoryLevel:
    return MemoryLevel(level=number, side=side, stride=stride, square_roots=0)


@pytest.mark.parametrize("compared", [MEMORY_LEVELS, FIRST_MEMORY_LEVELS])
def test_opposite_vectors_reach_the_farthest_product(compared: tuple[MemoryLevel, ...]) -> None:
    """Without a projection to fewer dimensions, a level of -1 against a feature of +1 everywhere."""
    channels, arrays = (4, 4, 4, 4, 4), {}
    for level in range(1, 6):
        matrix = draw_projection(4, 0, 4)
        arrays[projection_name(level)] = matrix.numpy()
        arrays[kept_name(level)] = (torch.full((1, 4), 0.5) @ matrix).numpy()
    levels = [-torch.ones(1, 4, side, side) for side in (8, 4, 2, 1, 1)]
    found = FeatureMemory(arrays, channels, compared)(levels)
    assert found.max().item() == pytest.approx(farthest_product(compared), rel=1e-4)


@pytest.mark.parametrize(
    ("levels", "own_teacher", "are_whole"),
    [
        pytest.param(MEMORY_LEVELS, True, True, id="new recipes"),
        pytest.param(FIRST_MEMORY_LEVELS, False, True, id="the first recipes"),
        pytest.param(MEMORY_LEVELS, False, False, id="the own teacher is missing"),
        pytest.param(MEMORY_LEVELS[1:], True, False, id="level 2 is missing"),
        pytest.param((*MEMORY_LEVELS, MEMORY_LEVELS[0]), True, False, id="a level twice"),
        pytest.param(MEMORY_LEVELS[:1], True, False, id="the others are missing"),
        pytest.param(FIRST_MEMORY_LEVELS[:2], False, False, id="the third is missing"),
        pytest.param(FIRST_MEMORY_LEVELS, True, False, id="nothing of the own teacher"),
        pytest.param((), True, False, id="no level"),
        pytest.param((_level(2, 3, 5), *MEMORY_LEVELS[1:]), True, False, id="a gap"),
        pytest.param((_level(2, 4, 1), *MEMORY_LEVELS[1:]), True, False, id="uneven"),
    ],
)
def test_damaged_levels_are_told(levels: tuple[MemoryLevel, ...], own_teacher: bool, are_whole: bool) -> None:
    assert are_complete(levels, own_teacher=own_teacher) == are_whole


def test_levels_without_a_number_are_those_of_their_places() -> None:
    assert numbers_of(FIRST_MEMORY_LEVELS) == [1, 2, 3]
    assert numbers_of(MEMORY_LEVELS) == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "text",
    [
        '{"side": 0, "stride": 1, "square_roots": 0}',
        '{"side": 3, "stride": 1, "square_roots": 9}',
        '{"side": 1000000000000, "stride": 1, "square_roots": 0}',
        '{"side": 3, "stride": 1, "square_roots": 0, "smallest": 1e300}',
        '{"level": 6, "side": 3, "stride": 1, "square_roots": 0}',
    ],
)
def test_a_level_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=MemoryLevel)
