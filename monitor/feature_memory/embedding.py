"""The embedding: from the teacher's levels to short feature vectors for the places of an image.

It knows nothing of the features that are kept.

As in PaDiM (Defard et al. 2021) and PatchCore (Roth et al. 2022), each place is described by levels of a
pretrained network, averaged over its neighbours. The vectors of each level are scaled to length 1, and a
random projection with orthogonal directions makes them short: distances shrink by a common factor on average
(Johnson and Lindenstrauss 1984). The places of each level have vectors of their own (`LevelEmbedding`); in
recipes of earlier versions the places of level 2 have one vector of both levels (`JoinedEmbedding`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monitor.model.memory_level import MemoryLevel
from monitor.pyramid import Features


class LevelEmbedding(nn.Module):
    """One level of a teacher with channel scaling to feature vectors at its places."""

    projection: Tensor

    def __init__(self, projection: Tensor, compared: MemoryLevel) -> None:
        """`projection` is float32 (C, D)."""
        super().__init__()
        self._side, self._stride = compared.side, compared.stride
        self.register_buffer("projection", projection.contiguous())

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) to float32 (N, H', W', D): a vector for each square."""
        embedded: Tensor = _direction(level, self._side, self._stride) @ self.projection
        return embedded


class JoinedEmbedding(nn.Module):
    """Levels 2 and 3 of a teacher with channel scaling to feature vectors at the places of level 2."""

    second: Tensor
    third: Tensor

    def __init__(self, projection: Tensor, channels: int) -> None:
        """`projection` is float32 (C_2 + C_3, D); its first `channels` rows, C_2, are those of level 2."""
        super().__init__()
        self.register_buffer("second", projection[:channels].contiguous())
        self.register_buffer("third", projection[channels:].contiguous())

    def forward(self, levels: Features) -> Tensor:
        """Three levels (N, C_l, H_l, W_l) to float32 (N, H_2, W_2, D)."""
        second = _direction(levels[1]) @ self.second
        third = (_direction(levels[2]) @ self.third).permute(0, 3, 1, 2)
        size = (levels[1].shape[-2], levels[1].shape[-1])
        # The projection comes before the resizing, because both are linear and the projection shortens the
        # vectors.
        third = F.interpolate(third, size=size, mode="bilinear", align_corners=False)
        embedded: Tensor = second + third.permute(0, 2, 3, 1)
        return embedded


def draw_projection(channels: int, seed: int, dimensions: int) -> Tensor:
    """A random projection with orthogonal directions of length 1: float32 (channels, D).

    D is `dimensions`, and at most `channels`. The projection depends on no image.
    """
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    orthogonal, _ = torch.linalg.qr(square)
    projection: Tensor = orthogonal[:, : min(dimensions, channels)].float()
    return projection.contiguous()


def _direction(level: Tensor, side: int = 3, stride: int = 1) -> Tensor:
    """(N, C, H, W) of any float type to float32 (N, H', W', C): averaged over squares, then of length 1."""
    padding = (side - stride) // 2
    pooled = F.avg_pool2d(level.float(), side, stride, padding=padding, count_include_pad=False)
    return F.normalize(pooled, dim=1).permute(0, 2, 3, 1)
