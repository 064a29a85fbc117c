"""A recipe's memory of good features as one network: from the teacher's levels to a map of distances.

It knows nothing of recipes, thresholds or files; its arrays come from `monitor.feature_memory.collection`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monitor.feature_memory.embedding import FeatureEmbedding
from monitor.feature_memory.nearest_feature import NearestFeature
from monitor.model.weights import Weights
from monitor.pyramid import Features

KEPT, PROJECTION = "kept", "projection"
"""The names of its arrays: float32 (K, D) and float32 (C_2 + C_3, D)."""


class FeatureMemory(nn.Module):
    """How far each place of an image is from all kept features of good images."""

    def __init__(self, arrays: Weights, channels: int) -> None:
        """`channels` is the number of channels of level 2. Raises ValueError for arrays that do not fit."""
        super().__init__()
        found = [torch.from_numpy(arrays[name]) for name in (KEPT, PROJECTION) if name in arrays]
        if len(found) < 2 or any(tensor.ndim != 2 or tensor.dtype != torch.float32 for tensor in found):
            raise ValueError(f"there must be float32 matrices {KEPT} and {PROJECTION}")
        kept, projection = found
        if not len(kept) or kept.shape[1] != projection.shape[1] or len(projection) <= channels:
            raise ValueError(
                f"{KEPT} {list(kept.shape)} and {PROJECTION} {list(projection.shape)} do not go together"
            )
        self.embedding = FeatureEmbedding(projection, channels)
        self.nearest = NearestFeature(kept)

    def forward(self, levels: Features, left_out: Tensor | None = None) -> Tensor:
        """The levels of a teacher with channel scaling, (N, C_l, H_l, W_l), to float32 (N, H_2, W_2).

        `left_out` is as in `NearestFeature.forward`.
        """
        squared: Tensor = self.nearest(self.embedding(levels), left_out)
        return squared
