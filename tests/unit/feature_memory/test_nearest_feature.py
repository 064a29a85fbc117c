"""The distance is that to the nearest kept feature, and leaving features out never lowers it."""

from __future__ import annotations

import torch

from monitor.feature_memory.nearest_feature import NearestFeature


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_the_smallest_of_all_in_several_blocks() -> None:
    kept, features = vectors(700, 8), vectors(2, 3, 5, 8, seed=1)
    found = NearestFeature(kept)(features)
    expected = torch.cdist(features.reshape(-1, 8).double(), kept.double()).square().amin(dim=1)
    assert found.shape == (2, 3, 5)
    assert torch.allclose(found.flatten().double(), expected, atol=1e-5)


def test_a_kept_feature_is_at_distance_0() -> None:
    kept = vectors(10, 8)
    assert float(NearestFeature(kept)(kept.reshape(1, 2, 5, 8)).max()) < 1e-6


def test_leaving_features_out_only_raises_distances() -> None:
    kept, features = vectors(300, 8), vectors(1, 4, 4, 8, seed=1)
    nearest = NearestFeature(kept)
    left_out = torch.arange(300) % 3 == 0
    found = nearest(features, left_out)
    assert bool((found >= nearest(features)).all())
    assert torch.allclose(found, NearestFeature(kept[~left_out])(features), atol=1e-6)


def test_with_all_features_left_out_no_distance_is_finite() -> None:
    nearest = NearestFeature(vectors(10, 8))
    assert bool(torch.isinf(nearest(vectors(1, 2, 2, 8), torch.ones(10, dtype=torch.bool))).all())
