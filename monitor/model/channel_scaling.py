"""How much each channel of a teacher varies over good images, by which its levels are evened out.

Measured once, before training, and kept beside the student's weights: what was trained is what runs. Must
never look at more than good images that train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from monitor.images.preprocessing import Pictures, normalised
from monitor.model.weights import Weights

NAMES = ("even.1", "even.2", "even.3")
"""Under which the deviations of the three levels stand among the student's weights."""

_ENOUGH = 100
"""Images that are looked at: with thousands of places in each, more change nothing."""
_FLOOR = 0.1
"""No channel counts for more than one with this share of its level's mean deviation: a channel that is almost
always 0 would be nothing but noise."""
_BATCH = 8


@torch.inference_mode()
def channel_deviations(
    teacher: nn.Module, pictures: Pictures, indices: Sequence[int], device: torch.device
) -> list[Tensor]:
    """For each level a float32 tensor (C_l,) on the CPU: the standard deviation of its channels over all
    places of up to 100 of the pictures, spread evenly over `indices`."""
    look = teacher.eval().to(device)
    chosen = [indices[i] for i in np.linspace(0, len(indices) - 1, min(_ENOUGH, len(indices))).astype(int)]
    moments = []
    for start in range(0, len(chosen), _BATCH):
        prepared = np.stack([normalised(pictures[index]) for index in chosen[start : start + _BATCH]])
        images = torch.from_numpy(prepared).to(device, memory_format=torch.channels_last)
        moments.append([_moments(level.double()) for level in look(images)])
    deviations = []
    for of_level in zip(*moments, strict=True):
        sums, squares, places = zip(*of_level, strict=True)
        total, square, count = sum(sums), sum(squares), sum(places)
        deviation = (square / count - (total / count).square()).clamp_min(0).sqrt()
        # A teacher that sees the same everywhere (a black image) has nothing to even out.
        mean = deviation.mean() if deviation.mean() > 0 else torch.ones_like(deviation.mean())
        deviations.append(deviation.clamp_min(_FLOOR * mean).float().cpu())
    return deviations


def _moments(level: Tensor) -> tuple[Tensor, Tensor, int]:
    """For each channel of (N, C, H, W) the sum and the sum of squares, and over how many places."""
    return level.sum(dim=(0, 2, 3)), level.square().sum(dim=(0, 2, 3)), level.numel() // level.shape[1]


def with_deviations(student: Weights, deviations: Sequence[Tensor]) -> Weights:
    """The student's weights and the deviations together, as a recipe keeps them."""
    return {**student, **{n: d.numpy() for n, d in zip(NAMES, deviations, strict=True)}}


def kept_deviations(student: Mapping[str, np.ndarray]) -> list[Tensor] | None:
    """The deviations among a student's weights; None for a recipe as in the paper. Raises KeyError when some
    of them are missing."""
    if not any(name in student for name in NAMES):
        return None
    return [torch.from_numpy(student[name]) for name in NAMES]
