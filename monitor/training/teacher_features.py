"""What the teacher sees in the pictures of a training run, computed once where that fits and pays.

The same picture must give the same features, to the bit, whatever was looked at before: a run that was
interrupted has seen other pictures by then than one that was not. Memory stays within the bound it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from monitor.images.preprocessing import Pictures, normalised
from monitor.inference.torch_network import folded

_BLOCK = 8


class Sight:
    """The teacher's three levels of the pictures `indices`.

    On a CPU the features of as many as fit into `room` bytes are kept. A GPU computes them faster than they
    could be fetched from the main memory.

    The values of a convolution's result depend, in the last bits, on how many images go through it together.
    So pictures that are kept are looked at in blocks that are always the same, and the others together with
    the others of their batch.
    """

    def __init__(
        self, teacher: nn.Module, pictures: Pictures, indices: Sequence[int], device: torch.device, room: int
    ) -> None:
        self._teacher = folded(teacher).to(device).to(memory_format=torch.channels_last)
        self._pictures = pictures
        self._device = device
        self._kept: dict[int, list[Tensor]] = {}
        self._blocks: dict[int, Sequence[int]] = {}
        if device.type == "cpu":
            fitting = indices[: room // self._bytes_of_one(indices[0])]
            for start in range(0, len(fitting), _BLOCK):
                block = fitting[start : start + _BLOCK]
                self._blocks.update(dict.fromkeys(block, block))

    def of(self, indices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Normalised images (N, 3, H, W) and the teacher's three levels of them, on the device."""
        images = self._images(indices)
        if not self._blocks:
            return images, self._look(images)
        found = {index: self._from_block(index) for index in indices if index in self._blocks}
        others = [place for place, index in enumerate(indices) if index not in found]
        if others:
            for place, *levels in zip(others, *self._look(images[others]), strict=True):
                found[indices[place]] = levels
        seen = zip(*(found[index] for index in indices), strict=True)
        return images, [torch.stack(level).contiguous(memory_format=torch.channels_last) for level in seen]

    def _from_block(self, index: int) -> list[Tensor]:
        if index not in self._kept:
            block = self._blocks[index]
            for member, *levels in zip(block, *self._look(self._images(block)), strict=True):
                # Cloned: a slice would hold its whole block's memory, also when that is laid out anew.
                self._kept[member] = [level.clone() for level in levels]
        return self._kept[index]

    def _images(self, indices: Sequence[int]) -> Tensor:
        prepared = np.stack([normalised(self._pictures[index]) for index in indices])
        return torch.from_numpy(prepared).to(self._device, memory_format=torch.channels_last)

    def _look(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            levels: list[Tensor] = self._teacher(images)
        return levels

    def _bytes_of_one(self, index: int) -> int:
        return sum(level.numel() * level.element_size() for level in self._look(self._images([index])))
