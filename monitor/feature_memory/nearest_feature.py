"""The distance from each place of an image to the nearest kept feature.

It imports torch alone and knows nothing of images, or of how the kept features were chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BLOCK = 256
"""At least so many kept features are compared at a time."""
_DISTANCES = 2**18
"""An image with few places is compared with more of them at a time, up to so many distances. They take 1 MiB,
which stays in a processor's cache."""


class NearestFeature(nn.Module):
    """The kept features, ready to be compared with."""

    kept: Tensor
    squares: Tensor

    def __init__(self, kept: Tensor) -> None:
        """`kept` is float32 (K, D), K at least 1."""
        super().__init__()
        self.register_buffer("kept", kept.contiguous())
        self.register_buffer("squares", kept.square().sum(dim=1))

    def forward(self, features: Tensor, left_out: Tensor | None = None) -> Tensor:
        """(N, H, W, D) to the squared distance from the nearest kept feature: float32 (N, H, W).

        The kept features at which `left_out`, bool (K,), is True are ignored; the distance is infinite where
        all are. All sums are float32.
        """
        places = features.flatten(0, 2)
        constants = self.squares
        if left_out is not None:
            constants = constants.masked_fill(left_out, torch.inf)
        nearest: Tensor | None = None
        # The places of one image count, so that its distances do not depend on how many images there are.
        step = max(_BLOCK, _DISTANCES // (features.shape[1] * features.shape[2]))
        for start in range(0, len(self.kept), step):
            block = slice(start, start + step)
            partial = torch.addmm(constants[block], places, self.kept[block].T, alpha=-2).amin(dim=1)
            nearest = partial if nearest is None else torch.minimum(nearest, partial)
        assert nearest is not None
        squared = (nearest + places.square().sum(dim=1)).clamp_min(0)
        return squared.reshape(features.shape[:3])
