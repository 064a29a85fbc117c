"""A recipe's memory of good features as one network: from the teacher's levels to a map of distances.

It knows nothing of recipes, thresholds or files; its arrays come from `monitor.feature_memory.collection`.

The levels are compared apart and their distances are multiplied, as in the paper's anomaly map: a defect is
far from the good features at every level. Compared as one vector, the levels need a kept feature that is near
in all of them at once, which a few thousand features seldom have. Levels 1 and 2 show small defects, but also
harmless differences of light and surface, so they count with roots of their squared distances. Level 3 is
averaged over a wider square and has the most features: it has a quarter of level 2's places, so comparing
with one of its features costs least (`tests/benchmarks/README.md`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monitor.feature_memory.embedding import JoinedEmbedding, LevelEmbedding
from monitor.feature_memory.nearest_feature import NearestFeature
from monitor.model.memory_level import MemoryLevel
from monitor.model.weights import Weights
from monitor.pyramid import Features, upsample

KEPT = ("kept.1", "kept.2", "kept.3")
PROJECTION = ("projection.1", "projection.2", "projection.3")
"""The names of its arrays by level: float32 (K_l, D_l) and float32 (C_l, D_l)."""
JOINED_KEPT, JOINED_PROJECTION = "kept", "projection"
"""The names of the arrays of a joined memory: float32 (K, D) and float32 (C_2 + C_3, D)."""


class FeatureMemory(nn.Module):
    """How far each place of an image is from all kept features of good images, multiplied over the levels."""

    def __init__(self, arrays: Weights, channels: Sequence[int], compared: Sequence[MemoryLevel]) -> None:
        """`channels`: how many each level has. Raises ValueError for arrays that do not fit."""
        super().__init__()
        kept, projections = _matrices(arrays, KEPT), _matrices(arrays, PROJECTION)
        for name, own, projection, count in zip(KEPT, kept, projections, channels, strict=True):
            if tuple(projection.shape) != (count, own.shape[1]):
                raise ValueError(
                    f"{name} {list(own.shape)} and its projection {list(projection.shape)} do not go together"
                )
        if len(compared) != len(KEPT):
            raise ValueError(f"{len(compared)} levels are described, not {len(KEPT)}")
        self.embeddings = nn.ModuleList(map(LevelEmbedding, projections, compared))
        self.nearest = nn.ModuleList(map(NearestFeature, kept))
        self._compared = tuple(compared)

    def forward(self, levels: Features, left_out: Sequence[Tensor | None] = (None, None, None)) -> Tensor:
        """The levels of a teacher with channel scaling, (N, C_l, H_l, W_l), to float32 (N, H_2, W_2).

        `left_out` is, by level, as in `NearestFeature.forward`.
        """
        distances = [
            nearest(embedding(level), ignored)
            for embedding, nearest, level, ignored in zip(
                self.embeddings, self.nearest, levels, left_out, strict=True
            )
        ]
        size = (distances[1].shape[-2], distances[1].shape[-1])
        first, second, third = (
            _take_roots(_resize(own, size), level)
            for own, level in zip(distances, self._compared, strict=True)
        )
        product: Tensor = first * second * third
        return product


def _take_roots(distances: Tensor, level: MemoryLevel) -> Tensor:
    if level.smallest:
        distances = distances.clamp_min(level.smallest)
    for _ in range(level.square_roots):
        distances = distances.sqrt()
    return distances


def _resize(distances: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) to (N, *size), bilinear with half-pixel centres."""
    return distances if distances.shape[-2:] == size else upsample(distances, size)


class JoinedMemory(nn.Module):
    """The memory of recipes of earlier versions: levels 2 and 3 of a place are one vector."""

    def __init__(self, arrays: Weights, channels: Sequence[int]) -> None:
        """`channels` is as in `FeatureMemory`. Raises ValueError for arrays that do not fit."""
        super().__init__()
        kept, projection = _matrices(arrays, (JOINED_KEPT, JOINED_PROJECTION))
        if kept.shape[1] != projection.shape[1] or len(projection) != sum(channels[1:]):
            raise ValueError(
                f"{JOINED_KEPT} {list(kept.shape)} and its projection {list(projection.shape)} do not fit"
            )
        self.embedding = JoinedEmbedding(projection, channels[1])
        self.nearest = NearestFeature(kept)

    def forward(self, levels: Features) -> Tensor:
        """As `FeatureMemory.forward`."""
        squared: Tensor = self.nearest(self.embedding(levels))
        return squared


def _matrices(arrays: Weights, names: Sequence[str]) -> list[Tensor]:
    """The arrays of those names. Raises ValueError unless they are float32 matrices with at least one row."""
    found = [torch.from_numpy(arrays[name]) for name in names if name in arrays]
    if len(found) < len(names) or any(
        tensor.ndim != 2 or tensor.dtype != torch.float32 or not len(tensor) for tensor in found
    ):
        raise ValueError(f"there must be float32 matrices {', '.join(names)}")
    return found
