"""A memory multiplies the distances of the levels, and runs only with arrays that go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monitor.feature_memory.embedding import draw_projection
from monitor.feature_memory.memory import (
    JOINED_KEPT,
    JOINED_PROJECTION,
    KEPT,
    PROJECTION,
    FeatureMemory,
    JoinedMemory,
)
from monitor.model.memory_level import FIRST_MEMORY_LEVELS, MEMORY_LEVELS, MemoryLevel

CHANNELS = (4, 12, 20)


def arrays(**wish: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    kept = {name: random.normal(size=(5, 4)).astype(np.float32) for name in KEPT}
    projections = {
        name: draw_projection(count, 0, 4).numpy() for name, count in zip(PROJECTION, CHANNELS, strict=True)
    }
    return {**kept, **projections, **wish}


def joined_arrays(**wish: np.ndarray) -> dict[str, np.ndarray]:
    kept, projection = np.ones((5, 8), np.float32), draw_projection(sum(CHANNELS[1:]), 0, 8).numpy()
    return {JOINED_KEPT: kept, JOINED_PROJECTION: projection, **wish}


def levels() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 16, 16), (2, 12, 8, 8), (2, 20, 4, 4))
    return [torch.rand(shape, generator=generator) for shape in shapes]


def test_it_gives_one_value_for_each_place_of_level_2() -> None:
    assert FeatureMemory(arrays(), CHANNELS, MEMORY_LEVELS)(levels()).shape == (2, 8, 8)
    assert JoinedMemory(joined_arrays(), CHANNELS)(levels()).shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("compared", "exponents"), [(MEMORY_LEVELS, (1 / 4, 1 / 2, 1)), (FIRST_MEMORY_LEVELS, (1 / 4, 1, 1))]
)
def test_the_value_is_the_product_of_the_levels_distances(
    compared: tuple[MemoryLevel, ...], exponents: tuple[float, ...]
) -> None:
    """With levels that are the same everywhere, resizing changes nothing."""
    flat = [level[:, :, :1, :1].expand_as(level) for level in levels()]
    memory = FeatureMemory(arrays(), CHANNELS, compared)
    first, second, third = (
        nearest(embedding(level))[:, 0, 0]
        for embedding, nearest, level in zip(memory.embeddings, memory.nearest, flat, strict=True)
    )
    product = first ** exponents[0] * second ** exponents[1] * third ** exponents[2]
    expected = product[:, None, None].expand(2, 8, 8)
    assert torch.allclose(memory(flat), expected, rtol=1e-4)


def test_rounding_near_a_kept_feature_does_not_move_the_value() -> None:
    """At a distance of 0 a root would make 1e-3 of an error of 1e-6."""
    flat = [level[:1, :, :1, :1].expand(1, *level.shape[1:]) for level in levels()]
    embeddings = FeatureMemory(arrays(), CHANNELS, MEMORY_LEVELS).embeddings
    same = {
        name: embed(level)[0, 0, :1].numpy()
        for name, embed, level in zip(KEPT[:2], embeddings[:2], flat[:2], strict=True)
    }
    near = {name: vector + np.float32(1e-3) for name, vector in same.items()}
    found, moved = (FeatureMemory(arrays(**kept), CHANNELS, MEMORY_LEVELS)(flat) for kept in (same, near))
    assert found.min() > 0
    assert torch.equal(found, moved)


def test_leaving_features_out_only_raises_values() -> None:
    memory = FeatureMemory(arrays(**{KEPT[2]: np.eye(9, 4, dtype=np.float32)}), CHANNELS, MEMORY_LEVELS)
    left_out = [torch.arange(count) % 3 == 0 for count in (5, 5, 9)]
    assert bool((memory(levels(), left_out) >= memory(levels())).all())


@pytest.mark.parametrize(
    "wish",
    [
        {KEPT[1]: np.ones((5, 5), np.float32)},
        {KEPT[0]: np.ones((0, 4), np.float32)},
        {KEPT[0]: np.ones((5, 4), np.float64)},
        {PROJECTION[1]: np.ones((11, 4), np.float32)},
    ],
)
def test_arrays_that_do_not_go_together_are_refused(wish: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="kept"):
        FeatureMemory(arrays(**wish), CHANNELS, MEMORY_LEVELS)


def test_a_level_that_nothing_is_said_of_is_refused() -> None:
    with pytest.raises(ValueError, match="2 levels are described, not 3"):
        FeatureMemory(arrays(), CHANNELS, MEMORY_LEVELS[:2])


@pytest.mark.parametrize(
    "wish", [{JOINED_KEPT: np.ones((5, 9), np.float32)}, {JOINED_PROJECTION: np.ones((12, 8), np.float32)}]
)
def test_joined_arrays_that_do_not_go_together_are_refused(wish: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="kept"):
        JoinedMemory(joined_arrays(**wish), CHANNELS)


def test_the_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kept\.1, kept\.2, kept\.3"):
        FeatureMemory(joined_arrays(), CHANNELS, MEMORY_LEVELS)
    with pytest.raises(ValueError, match="kept, projection"):
        JoinedMemory(arrays(), CHANNELS)
