"""The embedding depends on nothing but levels and seed, and keeps distances in proportion."""

from __future__ import annotations

import torch

from monitor.feature_memory.embedding import JoinedEmbedding, LevelEmbedding, draw_projection
from monitor.model.memory_level import MEMORY_LEVELS, MemoryLevel

SECOND = MemoryLevel(side=3, stride=1, square_roots=0)


def levels(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 16, 24), (2, 12, 8, 12), (2, 20, 4, 6))
    return [torch.rand(shape, generator=generator).to(dtype) for shape in shapes]


def test_each_place_gets_a_vector() -> None:
    second, third = (
        LevelEmbedding(draw_projection(level.shape[1], 0, 4), compared)(level)
        for level, compared in zip(levels()[1:], MEMORY_LEVELS[:2], strict=True)
    )
    assert second.shape == third.shape == (2, 4, 6, 4), "level 2 has the places of level 3"
    assert JoinedEmbedding(draw_projection(32, 0, 8), 12)(levels()).shape == (2, 8, 12, 8)


def test_half_precision_levels_give_float32_vectors() -> None:
    embedding = LevelEmbedding(draw_projection(12, 0, 8), SECOND)
    half = embedding(levels(torch.float16)[1])
    assert half.dtype == torch.float32
    assert torch.allclose(half, embedding(levels()[1]), atol=2e-3)


def test_brightness_alone_changes_no_vector() -> None:
    embedding, level = LevelEmbedding(draw_projection(12, 0, 8), SECOND), levels()[1]
    assert torch.allclose(embedding(3 * level), embedding(level), atol=1e-6)


def test_a_joined_vector_is_the_sum_of_both_levels_where_they_have_equal_places() -> None:
    projection = draw_projection(32, 0, 8)
    _, second, third = levels()
    third = third.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    joined = JoinedEmbedding(projection, 12)([second, second, third])
    apart = LevelEmbedding(projection[:12], SECOND)(second) + LevelEmbedding(projection[12:], SECOND)(third)
    assert torch.allclose(joined, apart, atol=1e-6)


def test_the_projection_is_orthogonal_and_depends_on_the_seed_alone() -> None:
    projection = draw_projection(32, 5, 8)
    assert torch.allclose(projection.T @ projection, torch.eye(8), atol=1e-6)
    assert torch.equal(projection, draw_projection(32, 5, 8))
    assert not torch.equal(projection, draw_projection(32, 6, 8))


def test_without_a_projection_to_fewer_dimensions_distances_are_exact() -> None:
    plain, turned = (
        JoinedEmbedding(matrix, 12)(levels()) for matrix in (torch.eye(32), draw_projection(32, 1, 32))
    )
    distances = [torch.cdist(one.flatten(0, 2), one.flatten(0, 2)) for one in (plain, turned)]
    assert torch.allclose(*distances, atol=2e-3)
