"""A memory multiplies the distances of the levels, and runs only with arrays that go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monitor.feature_memory.embedding import draw_projection
from monitor.feature_memory.memory import (
    JOINED_KEPT,
    JOINED_PROJECTION,
    FeatureMemory,
    JoinedMemory,
    kept_name,
    projection_name,
)
from monitor.model.memory_level import FIRST_MEMORY_LEVELS, MEMORY_LEVELS, MemoryLevel, numbers_of

CHANNELS = (4, 12, 20, 8, 10)


def arrays(**wish: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    kept = {kept_name(level): random.normal(size=(5, 4)).astype(np.float32) for level in range(1, 6)}
    projections = {
        projection_name(level): draw_projection(count, 0, 4).numpy()
        for level, count in enumerate(CHANNELS, start=1)
    }
    return {**kept, **projections, **wish}


def joined_arrays(**wish: np.ndarray) -> dict[str, np.ndarray]:
    kept, projection = np.ones((5, 8), np.float32), draw_projection(sum(CHANNELS[1:3]), 0, 8).numpy()
    return {JOINED_KEPT: kept, JOINED_PROJECTION: projection, **wish}


def levels() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 16, 16), (2, 12, 8, 8), (2, 20, 4, 4), (2, 8, 2, 2), (2, 10, 1, 1))
    return [torch.rand(shape, generator=generator) for shape in shapes]


def test_it_gives_one_value_for_each_place_where_level_2_is_compared() -> None:
    assert FeatureMemory(arrays(), CHANNELS, MEMORY_LEVELS)(levels()).shape == (2, 4, 4)
    assert FeatureMemory(arrays(), CHANNELS, FIRST_MEMORY_LEVELS)(levels()).shape == (2, 8, 8)
    assert JoinedMemory(joined_arrays(), CHANNELS[:3])(levels()[:3]).shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("compared", "exponents"),
    [(MEMORY_LEVELS, (1 / 4, 1 / 2, 1 / 2, 1 / 2)), (FIRST_MEMORY_LEVELS, (1 / 4, 1, 1))],
)
def test_the_value_is_the_product_of_the_levels_distances(
    compared: tuple[MemoryLevel, ...], exponents: tuple[float, ...]
) -> None:
    """With levels that are the same everywhere, resizing changes nothing."""
    flat = [level[:, :, :1, :1].expand_as(level) for level in levels()]
    memory = FeatureMemory(arrays(), CHANNELS, compared)
    factors = [
        nearest(embedding(flat[number - 1]))[:, 0, 0] ** exponent
        for embedding, nearest, number, exponent in zip(
            memory.embeddings, memory.nearest, numbers_of(compared), exponents, strict=True
        )
    ]
    found = memory(flat)
    expected = torch.stack(factors).prod(dim=0)[:, None, None].expand_as(found)
    assert torch.allclose(found, expected, rtol=1e-4)


def test_rounding_near_a_kept_feature_does_not_move_the_value() -> None:
    """At a distance of 0 a root would make 1e-3 of an error of 1e-6."""
    flat = [level[:1, :, :1, :1].expand(1, *level.shape[1:]) for level in levels()]
    embedding = FeatureMemory(arrays(), CHANNELS, MEMORY_LEVELS).embeddings[0]
    same = {kept_name(2): embedding(flat[1])[0, 0, :1].numpy()}
    near = {name: vector + np.float32(1e-3) for name, vector in same.items()}
    found, moved = (FeatureMemory(arrays(**kept), CHANNELS, MEMORY_LEVELS)(flat) for kept in (same, near))
    assert found.min() > 0
    assert torch.equal(found, moved)


def test_leaving_features_out_only_raises_values() -> None:
    kept = {kept_name(3): np.eye(9, 4, dtype=np.float32)}
    memory = FeatureMemory(arrays(**kept), CHANNELS, MEMORY_LEVELS)
    left_out = [torch.arange(count) % 3 == 0 for count in (5, 9, 5, 5)]
    assert bool((memory(levels(), left_out) >= memory(levels())).all())


@pytest.mark.parametrize(
    "wish",
    [
        {kept_name(2): np.ones((5, 5), np.float32)},
        {kept_name(4): np.ones((0, 4), np.float32)},
        {kept_name(5): np.ones((5, 4), np.float64)},
        {projection_name(2): np.ones((11, 4), np.float32)},
    ],
)
def test_arrays_that_do_not_go_together_are_refused(wish: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="kept"):
        FeatureMemory(arrays(**wish), CHANNELS, MEMORY_LEVELS)


def test_a_level_that_no_teacher_has_is_refused() -> None:
    with pytest.raises(ValueError, match="level 5 is described, but there are 3"):
        FeatureMemory(arrays(), CHANNELS[:3], MEMORY_LEVELS)


def test_a_level_that_is_not_compared_changes_nothing() -> None:
    memory = FeatureMemory(arrays(), CHANNELS, MEMORY_LEVELS)
    first, *others = levels()
    assert torch.equal(memory([first, *others]), memory([torch.rand_like(first), *others]))


@pytest.mark.parametrize(
    "wish", [{JOINED_KEPT: np.ones((5, 9), np.float32)}, {JOINED_PROJECTION: np.ones((12, 8), np.float32)}]
)
def test_joined_arrays_that_do_not_go_together_are_refused(wish: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="kept"):
        JoinedMemory(joined_arrays(**wish), CHANNELS[:3])


def test_the_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kept\.2, kept\.3, kept\.4, kept\.5"):
        FeatureMemory(joined_arrays(), CHANNELS, MEMORY_LEVELS)
    with pytest.raises(ValueError, match="kept, projection"):
        JoinedMemory(arrays(), CHANNELS[:3])
