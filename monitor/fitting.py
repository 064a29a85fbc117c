"""The student's training loop (the paper's section 3.2): pictures and a teacher in, the best student out.

Knows nothing of files, recipes or thresholds. It must never hand over a student whose loss went astray, and
never touch torch's global random state.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from monitor.images import Image, normalised
from monitor.progress import Progress
from monitor.pyramid import anomaly_map, matching_loss
from monitor.runtime import folded
from monitor.teacher import build_trunk, trunk_weights
from monitor.weights import Weights

BATCH = 32
_STEPS = 8
_SMALLEST_BATCH = 4
_FEATURE_BYTES = 2 << 30
"""The teacher's features are kept up to this, and up to an eighth of the machine's memory."""


class TrainingError(Exception):
    """No recipe came of it; the message is one line with the fix."""


class Pictures(Protocol):
    """Images by index, as `monitor.images.squashed` gives them: uint8 (size, size, 3) or (size, size)."""

    def __getitem__(self, index: int, /) -> Image: ...


@dataclass(frozen=True)
class Fitted:
    """The student that was kept, and how it went."""

    student: Weights
    best_epoch: int
    """From 1."""
    losses: tuple[float, ...]
    """The mean training loss of each epoch."""
    select_maps: tuple[float, ...]
    """The mean anomaly map of the select pictures after each epoch."""
    optimiser: str


def batch_size(count: int, *, as_paper: bool) -> int:
    """32 as in the paper, whose data sets are some 200 images; less when that makes fewer than 8 steps an
    epoch. 70 magnetic tiles, 20 epochs, SqueezeNet: image AUROC 0.84 in batches of 8, 0.81 in batches of 32.
    """
    return BATCH if as_paper else min(BATCH, max(_SMALLEST_BATCH, count // _STEPS))


def fit(
    teacher: nn.Module,
    architecture: str,
    pictures: Pictures,
    train: Sequence[int],
    select: Sequence[int],
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    progress: Progress,
    batch: int,
) -> Fitted:
    """Trains a randomly initialised student of the teacher's architecture on the pictures `train`.

    The student of the epoch with the lowest mean anomaly map on the pictures `select` is kept. Raises
    TrainingError when the loss is no number any more.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        student = build_trunk(architecture).to(device).to(memory_format=torch.channels_last)
    sight = _Sight(teacher, pictures, device, len(train) + len(select))
    optimiser, description = _optimiser(student)
    rng = np.random.default_rng(seed)
    losses, select_maps = [], []
    best: Weights = {}
    for epoch in range(1, epochs + 1):
        student.train()
        total = 0.0
        for chunk in _chunks(rng.permutation(train).tolist(), batch):
            images, seen = sight.of(chunk)
            loss = matching_loss(seen, student(images))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() * len(chunk)
        losses.append(total / len(train))
        select_maps.append(_mean_map(student, sight, select, batch))
        if not (math.isfinite(losses[-1]) and math.isfinite(select_maps[-1])):
            raise TrainingError(
                f"the loss went astray in epoch {epoch} (it is no number any more): try another --seed or "
                "--teacher; nothing was saved"
            )
        if select_maps[-1] == min(select_maps):
            best = {name: array.copy() for name, array in trunk_weights(student).items()}
        progress.update("train", epoch, epochs, f"loss {losses[-1]:.4f} map {min(select_maps):.3g}")
    best_epoch = select_maps.index(min(select_maps)) + 1
    return Fitted(best, best_epoch, tuple(losses), tuple(select_maps), f"{description}, batch {batch}")


class _Sight:
    """What the teacher sees in a picture: the same in every epoch, so on a CPU it is looked at once.

    A GPU computes it faster than it could be fetched from the main memory.
    """

    def __init__(self, teacher: nn.Module, pictures: Pictures, device: torch.device, count: int) -> None:
        self._teacher = folded(teacher).to(device).to(memory_format=torch.channels_last)
        self._pictures = pictures
        self._device = device
        self._kept: dict[int, list[Tensor]] | None = None
        if device.type == "cpu" and self._fits(count):
            self._kept = {}

    def of(self, indices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Normalised images (N, 3, H, W) and the teacher's three levels of them, on the device."""
        prepared = np.stack([normalised(self._pictures[index]) for index in indices])
        images = torch.from_numpy(prepared).to(self._device, memory_format=torch.channels_last)
        if self._kept is None:
            return images, self._look(images)
        new = [place for place, index in enumerate(indices) if index not in self._kept]
        if new:
            for place, *levels in zip(new, *self._look(images[new]), strict=True):
                self._kept[indices[place]] = levels
        seen = [self._kept[index] for index in indices]
        return images, [
            torch.stack(level).contiguous(memory_format=torch.channels_last)
            for level in zip(*seen, strict=True)
        ]

    def _look(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            levels: list[Tensor] = self._teacher(images)
        return levels

    def _fits(self, count: int) -> bool:
        one = torch.from_numpy(normalised(self._pictures[0])).unsqueeze(0).to(self._device)
        values = sum(level.numel() for level in self._look(one))
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return count * values * 4 <= min(_FEATURE_BYTES, memory // 8)


def _optimiser(student: nn.Module) -> tuple[torch.optim.Optimizer, str]:
    """The official one; trunks without batch normalisation learn slowly with it (SqueezeNet on 70 magnetic
    tiles after 20 epochs: mean map 0.18, with AdamW 0.11)."""
    if any(isinstance(module, nn.BatchNorm2d) for module in student.modules()):
        sgd = torch.optim.SGD(student.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)
        return sgd, "SGD 0.4, momentum 0.9, weight decay 1e-4"
    return torch.optim.AdamW(
        student.parameters(), lr=3e-3, weight_decay=1e-4
    ), "AdamW 3e-3, weight decay 1e-4"


def _mean_map(student: nn.Module, sight: _Sight, indices: Sequence[int], batch: int) -> float:
    student.eval()
    total = 0.0
    with torch.inference_mode():
        for chunk in _chunks(indices, batch):
            images, seen = sight.of(chunk)
            total += float(anomaly_map(seen, student(images)).mean(dim=(1, 2)).sum())
    return total / len(indices)


def _chunks(indices: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), length):
        yield indices[start : start + length]
