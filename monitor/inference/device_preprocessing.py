"""`images.prepare` for a device that the CPU only feeds: the same steps in torch.

There is one definition of how a frame becomes the network's input, and it is
`monitor.images.preprocessing`; this follows
it step by step, with OpenCV's own rounding, so that no pixel is further from it than one grey level and
hardly any differs at all. Pure functions of tensors: nothing here may know of CUDA, and nothing here chooses
when to run.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from drivers.image_file import Image
from monitor.images.preprocessing import HALVED_FROM, SCALE, SHIFT, Size

_COEFFICIENT_BITS = 11
"""OpenCV's bilinear weights of 8-bit pixels are whole numbers of so many bits."""


class Preparation:
    """`images.prepare` for frames of one height and width: what it multiplies by is made once."""

    def __init__(self, shape: Size, size: Size, device: torch.device) -> None:
        (rows, columns), (height, width) = shape, size
        self._blocks: list[Size] = []
        least = HALVED_FROM * height, HALVED_FROM * width
        while rows >= least[0] and columns >= least[1] and rows % 2 == 0 and columns % 2 == 0:
            rows, columns = rows // 2, columns // 2
            self._blocks.append((2, 2))
        self._shares: tuple[Tensor, Tensor] | None = None
        down, along = min(rows, height), min(columns, width)
        if (down, along) != (rows, columns):
            if rows % down == 0 and columns % along == 0:
                self._blocks.append((rows // down, columns // along))
            else:
                self._shares = _shares(rows, down).to(device), _shares(columns, along).T.to(device)
        self._taps: tuple[_Taps, _Taps] | None = None
        if (down, along) != (height, width):
            self._taps = _Taps(down, height, device), _Taps(along, width, device, clamped=True)
        self._scale, self._shift = (
            torch.from_numpy(array).to(device)[:, None, None] for array in (SCALE, SHIFT)
        )

    def prepared(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) BGR or (N, H, W, 1) to float32 (N, 3, *size), normalised RGB."""
        return self.squashed(frames).flip(1) * self._scale + self._shift

    def squashed(self, frames: Tensor) -> Tensor:
        """`images.squashed`: whole grey levels, float32 (N, C, *size), channels in the frames' order."""
        # A view whose strides are those of channels-last: no pixel is moved for it.
        pictures = frames.permute(0, 3, 1, 2).float()
        for block in self._blocks:
            pictures = _averaged(pictures, block)
        if self._shares is not None:
            rows, columns = self._shares
            number, channels, high, wide = pictures.shape
            lines = pictures.permute(0, 2, 3, 1).reshape(number, high, wide * channels)
            lower = torch.matmul(rows, lines).reshape(number, -1, wide, channels)
            pictures = torch.matmul(lower.permute(0, 3, 1, 2), columns).round()
        if self._taps is not None:
            pictures = _grown(pictures, *self._taps)
        return pictures


def as_image(pictures: Tensor) -> Image:
    """One picture, (1, C, H, W) of grey levels, as an array like those of `images.squashed`."""
    levels = pictures[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    return np.asarray(levels[:, :, 0] if levels.shape[2] == 1 else levels, np.uint8)


class _Taps:
    """The two old pixels that each new one lies between, along one axis, and how much each of them counts."""

    def __init__(self, old: int, new: int, device: torch.device, *, clamped: bool = False) -> None:
        """`clamped`: beyond the last pixel's middle that pixel alone counts. OpenCV does so along rows; down
        columns it takes the pixel twice, which rounds twice."""
        places = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
        first = np.floor(places).astype(np.int64)
        share = places - first
        if clamped:
            share[(first < 0) | (first >= old - 1)] = 0
        counts = [np.rint(part * 2**_COEFFICIENT_BITS).astype(np.int32) for part in (1 - share, share)]
        self.first, self.second = (
            torch.from_numpy(np.clip(place, 0, old - 1)).to(device) for place in (first, first + 1)
        )
        self.of_first, self.of_second = (torch.from_numpy(count).to(device) for count in counts)


def _averaged(pictures: Tensor, block: Size) -> Tensor:
    """The mean of each block of pixels, rounded as OpenCV does it: the sums are whole, so nothing is lost."""
    sums = F.avg_pool2d(pictures, block, divisor_override=1)
    if block == (2, 2):
        return torch.floor((sums + 2) / 4)
    return (sums * float(np.float32(1 / (block[0] * block[1])))).round()


def _shares(old: int, new: int) -> Tensor:
    """How much of each of `old` pixels falls into each of `new`, which are fewer: float32 (new, old)."""
    edges = np.arange(new + 1) * (old / new)
    shares: NDArray[np.float64] = np.stack(
        [
            np.clip(np.minimum(end, np.arange(1, old + 1)) - np.maximum(begin, np.arange(old)), 0, None)
            for begin, end in pairwise(edges)
        ]
    )
    return torch.from_numpy((shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


def _grown(pictures: Tensor, down: _Taps, along: _Taps) -> Tensor:
    """Bilinear in whole numbers, with the bits that OpenCV drops on the way."""
    levels = pictures.to(torch.int32)
    wide = levels[..., along.first] * along.of_first + levels[..., along.second] * along.of_second
    wide >>= 4
    upper = wide[..., down.first, :] * down.of_first[:, None] >> 16
    lower = wide[..., down.second, :] * down.of_second[:, None] >> 16
    return (upper + lower + 2 >> 2).float()
