"""A memory multiplies the distances of two levels, and runs only with arrays that go together."""

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

CHANNELS = (12, 20)


def arrays(**wish: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    kept = {name: random.normal(size=(5, 8)).astype(np.float32) for name in KEPT}
    projections = {
        name: draw_projection(count, 0, 8).numpy() for name, count in zip(PROJECTION, CHANNELS, strict=True)
    }
    return {**kept, **projections, **wish}


def joined_arrays(**wish: np.ndarray) -> dict[str, np.ndarray]:
    kept, projection = np.ones((5, 8), np.float32), draw_projection(sum(CHANNELS), 0, 8).numpy()
    return {JOINED_KEPT: kept, JOINED_PROJECTION: projection, **wish}


def levels() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 16, 16), (2, 12, 8, 8), (2, 20, 4, 4))
    return [torch.rand(shape, generator=generator) for shape in shapes]


def test_it_gives_one_value_for_each_place_of_level_2() -> None:
    assert FeatureMemory(arrays(), CHANNELS)(levels()).shape == (2, 8, 8)
    assert JoinedMemory(joined_arrays(), CHANNELS)(levels()).shape == (2, 8, 8)


def test_the_value_is_the_product_of_the_distances_at_both_levels() -> None:
    first, second, third = levels()
    third = third.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    memory = FeatureMemory(arrays(), CHANNELS)
    alone = [
        nearest(embedding(level))
        for embedding, nearest, level in zip(memory.embeddings, memory.nearest, (second, third), strict=True)
    ]
    assert torch.allclose(memory([first, second, third]), alone[0] * alone[1])


def test_leaving_features_out_only_raises_values() -> None:
    memory = FeatureMemory(arrays(), CHANNELS)
    left_out = torch.tensor([True, False, False, True, False])
    assert bool((memory(levels(), left_out) >= memory(levels())).all())


@pytest.mark.parametrize(
    "wish",
    [
        {KEPT[1]: np.ones((5, 9), np.float32)},
        {KEPT[1]: np.ones((4, 8), np.float32)},
        {KEPT[0]: np.ones((0, 8), np.float32)},
        {KEPT[0]: np.ones((5, 8), np.float64)},
        {PROJECTION[1]: np.ones((12, 8), np.float32)},
    ],
)
def test_arrays_that_do_not_go_together_are_refused(wish: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="kept"):
        FeatureMemory(arrays(**wish), CHANNELS)


@pytest.mark.parametrize(
    "wish", [{JOINED_KEPT: np.ones((5, 9), np.float32)}, {JOINED_PROJECTION: np.ones((12, 8), np.float32)}]
)
def test_joined_arrays_that_do_not_go_together_are_refused(wish: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="kept"):
        JoinedMemory(joined_arrays(**wish), CHANNELS)


def test_the_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kept\.2 and kept\.3"):
        FeatureMemory(joined_arrays(), CHANNELS)
    with pytest.raises(ValueError, match="kept and projection"):
        JoinedMemory(arrays(), CHANNELS)
