"""A recipe's networks in torch: one function from images to anomaly maps on one device.

It knows nothing of files, thresholds or verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from monitor.inference.anomaly_network import AnomalyNetwork, Networks
from monitor.teachers.architectures import NetworkLock


class TorchNetwork:
    """The networks as one function from normalised images to anomaly maps, on one device.

    Batch normalisation is folded into the convolutions and everything is channels-last: on two CPU cores a
    256x256 image takes 20 ms instead of 36. Tracing and freezing on top of that gained nothing.
    """

    def __init__(
        self,
        networks: Networks,
        device: torch.device,
        *,
        half: bool,
        bfloat16: bool = False,
        network_lock: NetworkLock | None = None,
    ) -> None:
        """`half` computes the trunks in float16. `bfloat16` computes them in bfloat16, except the memory's
        own teacher, whose many steps add up their rounding. `network_lock` is held while the trunks are
        traced.
        """
        disable_tf32(device)
        self._device = device
        self._dtype = torch.float16 if half else torch.bfloat16 if bfloat16 else torch.float32
        if networks.memory is not None:
            networks.memory.to(device)
        convert = partial(_move_to_device, device=device, dtype=self._dtype)
        self._network = AnomalyNetwork(networks.folded(network_lock), convert)
        if bfloat16 and self._network.memory_teacher is not None:
            self._network.memory_teacher.float()

    @torch.inference_mode()
    def __call__(self, images: Tensor, left_out: Sequence[Tensor] | None = None) -> Tensor:
        """(N, 3, H, W) float32, normalised, to anomaly maps (N, H, W) float32 on the device.

        `left_out`, by compared level bool (K_l,), marks kept features of the memory that are ignored.
        """
        ignored = None if left_out is None else [own.to(self._device) for own in left_out]
        maps: Tensor = self._network(self._trunk_input(images), ignored)
        return maps

    @torch.inference_mode()
    def maps_each(self, images: Tensor) -> Tensor:
        """The maps of `AnomalyNetwork.forward_each`."""
        return self._network.forward_each(self._trunk_input(images))

    def _trunk_input(self, images: Tensor) -> Tensor:
        images = images.to(self._device, non_blocking=True)
        return images.to(dtype=self._dtype, memory_format=torch.channels_last)


def disable_tf32(device: torch.device) -> None:
    """Make this process compute float32 in full precision on a CUDA device; no effect on a CPU.

    TensorFloat-32 has 10 mantissa bits instead of 23, too few for the agreement that
    `backends.MAX_MAP_DIFFERENCE` demands. The switches belong to the whole process and are never set back,
    because another thread's network may be running.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def _move_to_device(trunk: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The trunk on a device, computing in `dtype`.

    The factors of channel scaling stay float32: the largest float16 number is 65504, and a channel with a
    small deviation has a large factor.
    """
    scaling = dict(trunk.named_buffers(recurse=False))
    trunk.to(device, dtype).to(memory_format=torch.channels_last)
    for name, factors in scaling.items():
        trunk.register_buffer(name, factors.to(device))
    return trunk
