"""The teacher's features of the pictures of a training run, computed once where they fit into memory.

It knows nothing of the student or of files.

The same picture must give the same features, to the bit, whatever pictures were computed before it: a resumed
run has computed other pictures by then than an uninterrupted run, and both must give the same student.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from monitor.images.preprocessing import IndexedImages, normalise_image
from monitor.inference.batch_norm_folding import fold_batch_norm

_BLOCK = 8
"""How many pictures whose features are kept go through the teacher together."""


class TeacherFeatures:
    """The teacher's three levels of the pictures `indices`.

    On a CPU the features of as many pictures as fit into `memory_bytes` are kept. On a GPU none are kept,
    because computing them takes less time than copying them from the main memory.

    The last bits of a convolution's result depend on how many images go through it together. So the pictures
    whose features are kept are computed in blocks that are always the same, and the other pictures of a batch
    are computed together.
    """

    def __init__(
        self,
        teacher: nn.Module,
        pictures: IndexedImages,
        indices: Sequence[int],
        device: torch.device,
        memory_bytes: int,
    ) -> None:
        self._teacher = fold_batch_norm(teacher).to(device).to(memory_format=torch.channels_last)
        self._pictures = pictures
        self._device = device
        self._kept: dict[int, list[Tensor]] = {}
        self._blocks: dict[int, Sequence[int]] = {}
        if device.type == "cpu":
            fitting = indices[: memory_bytes // self._bytes_of_one(indices[0])]
            for start in range(0, len(fitting), _BLOCK):
                block = fitting[start : start + _BLOCK]
                self._blocks.update(dict.fromkeys(block, block))

    def of(self, indices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The normalised images (N, 3, H, W) and the teacher's three levels of them, on the device."""
        images = self._images(indices)
        if not self._blocks:
            return images, self._compute(images)
        found = {index: self._from_block(index) for index in indices if index in self._blocks}
        others = [place for place, index in enumerate(indices) if index not in found]
        if others:
            for place, *levels in zip(others, *self._compute(images[others]), strict=True):
                found[indices[place]] = levels
        by_level = zip(*(found[index] for index in indices), strict=True)
        return images, [torch.stack(one).contiguous(memory_format=torch.channels_last) for one in by_level]

    def _from_block(self, index: int) -> list[Tensor]:
        if index not in self._kept:
            block = self._blocks[index]
            for member, *levels in zip(block, *self._compute(self._images(block)), strict=True):
                # The features are cloned, because a slice would keep the memory of its whole block.
                self._kept[member] = [level.clone() for level in levels]
        return self._kept[index]

    def _images(self, indices: Sequence[int]) -> Tensor:
        prepared = np.stack([normalise_image(self._pictures[index]) for index in indices])
        return torch.from_numpy(prepared).to(self._device, memory_format=torch.channels_last)

    def _compute(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            levels: list[Tensor] = self._teacher(images)
        return levels

    def _bytes_of_one(self, index: int) -> int:
        return sum(level.numel() * level.element_size() for level in self._compute(self._images([index])))
