"""Channel scaling: how much each channel of a teacher varies over good images.

Training divides every channel of teacher and student by its standard deviation (`monitor.pyramid`). The
deviations are measured once, before training, and are stored with the student's weights, those of a memory's
own teacher with the memory's arrays, so that scoring divides by the same numbers. They come from the good
images that train, without a student from those that select, and from no others. This module knows nothing of
recipes, losses or thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from monitor.images.preprocessing import IndexedImages, normalise_image
from monitor.model.weights import Weights

TENSOR_NAMES = ("even.1", "even.2", "even.3")
"""The names of the three levels' deviations among the student's weights."""
OWN_TENSOR_NAMES = ("even.4", "even.5")
"""The names of the deviations of the memory's own teacher among the memory's arrays."""

_MAX_IMAGES = 100
"""Each image has hundreds to thousands of feature vectors, so more images hardly change the deviations."""
_MIN_SHARE = 0.1
"""A deviation is at least this share of its level's mean deviation. Otherwise a channel that is almost always
0 would add only noise, multiplied by a large number."""
_BATCH = 8


@torch.inference_mode()
def channel_deviations(
    teacher: nn.Module, pictures: IndexedImages, indices: Sequence[int], device: torch.device
) -> list[Tensor]:
    """The standard deviation of each channel over all feature vectors of the images.

    The result is a float32 tensor (C_l,) on the CPU for each level. Of more than 100 `indices`, 100 at equal
    distances are taken.
    """
    network = teacher.eval().to(device)
    spread = np.linspace(0, len(indices) - 1, min(_MAX_IMAGES, len(indices))).astype(int)
    chosen = [indices[i] for i in spread]
    moments = []
    for start in range(0, len(chosen), _BATCH):
        batch = np.stack([normalise_image(pictures[index]) for index in chosen[start : start + _BATCH]])
        images = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
        moments.append([_moments(level.double()) for level in network(images)])
    deviations = []
    for of_level in zip(*moments, strict=True):
        sums, squares, places = zip(*of_level, strict=True)
        total, square, count = sum(sums), sum(squares), sum(places)
        deviation = (square / count - (total / count).square()).clamp_min(0).sqrt()
        # With black images all features of a level are equal and all deviations 0: a mean of 1 prevents a
        # later division by 0.
        mean = deviation.mean() if deviation.mean() > 0 else torch.ones_like(deviation.mean())
        deviations.append(deviation.clamp_min(_MIN_SHARE * mean).float().cpu())
    return deviations


def _moments(level: Tensor) -> tuple[Tensor, Tensor, int]:
    """The sum and the sum of squares of each channel of (N, C, H, W), and the number of places summed."""
    return level.sum(dim=(0, 2, 3)), level.square().sum(dim=(0, 2, 3)), level.numel() // level.shape[1]


def add_deviations(
    weights: Weights, deviations: Sequence[Tensor], names: Sequence[str] = TENSOR_NAMES
) -> Weights:
    """A student's or a memory's arrays and the deviations together, as a recipe stores them."""
    return {**weights, **{n: d.numpy() for n, d in zip(names, deviations, strict=True)}}


def read_deviations(
    weights: Mapping[str, np.ndarray], names: Sequence[str] = TENSOR_NAMES
) -> list[Tensor] | None:
    """The deviations of those names among the arrays; None where there are none.

    Raises ValueError when only some of them are there, or one is not a list of positive float32 numbers.
    """
    if not any(name in weights for name in names):
        return None
    for name in names:
        if name not in weights:
            raise ValueError(f"{name} is missing")
        array = weights[name]
        if array.ndim != 1 or array.dtype != np.float32 or not (array > 0).all():
            raise ValueError(f"{name} is no list of positive float32 numbers")
    return [torch.from_numpy(weights[name]) for name in names]
