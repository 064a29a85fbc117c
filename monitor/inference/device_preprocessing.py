"""Preprocessing on a device: `monitor.images.preprocessing.prepare`, step by step, in torch.

`monitor.images.preprocessing` defines how a frame becomes the network's input. This module repeats its steps
with OpenCV's rounding, so that no pixel differs by more than one grey level and hardly any pixel differs at
all. Pure functions of tensors: the module knows nothing of CUDA, streams or batches.
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
"""OpenCV's bilinear weights for 8-bit pixels are integers with this many bits."""


class DevicePreprocessing:
    """The preprocessing of frames of one height and width. Its constants are computed once."""

    def __init__(self, shape: Size, size: Size, device: torch.device) -> None:
        """From frames of `shape` to network inputs of `size`, both in rows and columns."""
        (rows, columns), (height, width) = shape, size
        self._blocks: list[Size] = []
        """Sizes of the blocks that are averaged one after the other."""
        least = HALVED_FROM * height, HALVED_FROM * width
        while rows >= least[0] and columns >= least[1] and rows % 2 == 0 and columns % 2 == 0:
            rows, columns = rows // 2, columns // 2
            self._blocks.append((2, 2))
        self._area_weights: tuple[Tensor, Tensor] | None = None
        reduced = min(rows, height), min(columns, width)
        if reduced != (rows, columns):
            if rows % reduced[0] == 0 and columns % reduced[1] == 0:
                self._blocks.append((rows // reduced[0], columns // reduced[1]))
            else:
                self._area_weights = (
                    _area_weights(rows, reduced[0]).to(device),
                    _area_weights(columns, reduced[1]).T.to(device),
                )
        self._bilinear: tuple[_BilinearWeights, _BilinearWeights] | None = None
        if reduced != (height, width):
            self._bilinear = (
                _BilinearWeights(reduced[0], height, device),
                _BilinearWeights(reduced[1], width, device, clamped=True),
            )
        self._scale, self._shift = (
            torch.from_numpy(array).to(device)[:, None, None] for array in (SCALE, SHIFT)
        )

    def prepare(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) BGR or (N, H, W, 1) to float32 (N, 3, *size), normalised RGB."""
        return self.resize(frames).flip(1) * self._scale + self._shift

    def resize(self, frames: Tensor) -> Tensor:
        """The frames at `size`: float32 (N, C, *size) in whole grey levels, channels in the frames' order."""
        # A view with channels-last strides: no pixel is copied.
        images = frames.permute(0, 3, 1, 2).float()
        for block in self._blocks:
            images = _average_blocks(images, block)
        if self._area_weights is not None:
            of_rows, of_columns = self._area_weights
            number, channels, height, width = images.shape
            lines = images.permute(0, 2, 3, 1).reshape(number, height, width * channels)
            fewer_rows = torch.matmul(of_rows, lines).reshape(number, -1, width, channels)
            images = torch.matmul(fewer_rows.permute(0, 3, 1, 2), of_columns).round()
        if self._bilinear is not None:
            images = _enlarge(images, *self._bilinear)
        return images


def to_image(levels: Tensor) -> Image:
    """One image, (1, C, H, W) in grey levels, as a uint8 array (H, W, 3) or (H, W)."""
    array = levels[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    return np.asarray(array[:, :, 0] if array.shape[2] == 1 else array, np.uint8)


class _BilinearWeights:
    """For each new pixel along one axis: the two old pixels beside it and their weights."""

    def __init__(self, old: int, new: int, device: torch.device, *, clamped: bool = False) -> None:
        """`clamped`: beyond the centre of the last pixel, that pixel alone has a weight. OpenCV does this
        along rows; along columns it takes the last pixel twice, which rounds twice."""
        places = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
        first = np.floor(places).astype(np.int64)
        share = places - first
        if clamped:
            share[(first < 0) | (first >= old - 1)] = 0
        weights = [np.rint(part * 2**_COEFFICIENT_BITS).astype(np.int32) for part in (1 - share, share)]
        self.first, self.second = (
            torch.from_numpy(np.clip(place, 0, old - 1)).to(device) for place in (first, first + 1)
        )
        self.first_weight, self.second_weight = (torch.from_numpy(weight).to(device) for weight in weights)


def _average_blocks(images: Tensor, block: Size) -> Tensor:
    """The mean of each block of pixels, rounded as OpenCV does. The sums are integers, so they are exact."""
    sums = F.avg_pool2d(images, block, divisor_override=1)
    if block == (2, 2):
        return torch.floor((sums + 2) / 4)
    return (sums * float(np.float32(1 / (block[0] * block[1])))).round()


def _area_weights(old: int, new: int) -> Tensor:
    """The share of each of `old` pixels in each of `new` pixels, `new` < `old`: float32 (new, old)."""
    edges = np.arange(new + 1) * (old / new)
    shares: NDArray[np.float64] = np.stack(
        [
            np.clip(np.minimum(end, np.arange(1, old + 1)) - np.maximum(begin, np.arange(old)), 0, None)
            for begin, end in pairwise(edges)
        ]
    )
    return torch.from_numpy((shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


def _enlarge(images: Tensor, rows: _BilinearWeights, columns: _BilinearWeights) -> Tensor:
    """Bilinear in integers, dropping the same bits as OpenCV."""
    levels = images.to(torch.int32)
    wide = levels[..., columns.first] * columns.first_weight
    wide = wide + levels[..., columns.second] * columns.second_weight
    wide >>= 4
    upper = wide[..., rows.first, :] * rows.first_weight[:, None] >> 16
    lower = wide[..., rows.second, :] * rows.second_weight[:, None] >> 16
    return (upper + lower + 2 >> 2).float()
