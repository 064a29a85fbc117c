"""A recipe's memory of good features as one network: from the teacher's levels to a map of distances.

It knows nothing of recipes, thresholds or files; its arrays come from `monitor.feature_memory.collection`.

The levels are compared apart and their distances are multiplied, as in the paper's anomaly map: a defect is
far from the good features at every level. Compared as one vector, the levels need a kept feature that is near
in all of them at once, which a few thousand features seldom have. Level 2 shows small defects, but also
harmless differences of light and surface, so it counts less, with another square root. Levels 4 and 5
are those of the memory's own teacher, which was trained on photographs: they show what is wrong as a whole,
such as a missing part (`tests/benchmarks/README.md`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monitor.feature_memory.embedding import JoinedEmbedding, LevelEmbedding
from monitor.feature_memory.nearest_feature import NearestFeature
from monitor.model.memory_level import MemoryLevel, numbers_of
from monitor.model.weights import Weights
from monitor.pyramid import Features, upsample

JOINED_KEPT, JOINED_PROJECTION = "kept", "projection"
"""The names of the arrays of a joined memory: float32 (K, D) and float32 (C_2 + C_3, D)."""


def kept_name(level: int) -> str:
    """The name of the array with a level's kept features, float32 (K_l, D_l)."""
    return f"kept.{level}"


def projection_name(level: int) -> str:
    """The name of the array with a level's projection, float32 (C_l, D_l)."""
    return f"projection.{level}"


class FeatureMemory(nn.Module):
    """How far each place of an image is from all kept features of good images, multiplied over the levels."""

    def __init__(self, arrays: Weights, channels: Sequence[int], compared: Sequence[MemoryLevel]) -> None:
        """`channels`: how many each level of the teachers has; `compared` may leave levels out.

        Raises ValueError for arrays that do not fit.
        """
        super().__init__()
        numbers = numbers_of(compared)
        if max(numbers, default=0) > len(channels):
            raise ValueError(f"level {max(numbers)} is described, but there are {len(channels)}")
        kept = _matrices(arrays, [kept_name(number) for number in numbers])
        projections = _matrices(arrays, [projection_name(number) for number in numbers])
        for number, own, projection in zip(numbers, kept, projections, strict=True):
            if tuple(projection.shape) != (channels[number - 1], own.shape[1]):
                raise ValueError(
                    f"{kept_name(number)} {list(own.shape)} and its projection {list(projection.shape)} "
                    "do not go together"
                )
        self.embeddings = nn.ModuleList(map(LevelEmbedding, projections, compared))
        self.nearest = nn.ModuleList(map(NearestFeature, kept))
        self._compared = tuple(compared)
        self._numbers = tuple(numbers)

    def forward(self, levels: Features, left_out: Sequence[Tensor] | None = None) -> Tensor:
        """All levels of the teachers with channel scaling, (N, C_l, H_l, W_l), to float32 (N, H, W) at the
        places where level 2 is compared.

        `left_out` is, by compared level, as in `NearestFeature.forward`.
        """
        ignored = [None] * len(self._numbers) if left_out is None else left_out
        distances = [
            nearest(embedding(levels[number - 1]), without)
            for embedding, nearest, number, without in zip(
                self.embeddings, self.nearest, self._numbers, ignored, strict=True
            )
        ]
        places = distances[self._numbers.index(2)]
        size = (places.shape[-2], places.shape[-1])
        product, *others = (
            _take_roots(_resize(own, size), level)
            for own, level in zip(distances, self._compared, strict=True)
        )
        for factor in others:
            product = product * factor
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
