"""A recipe's network in one runtime and precision, built for this machine.

It knows nothing of thresholds, and not which backend is chosen (`monitor.inference.backends`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monitor.inference.anomaly_network import build_networks
from monitor.inference.backends import BF16, F16, F32, INT8, TORCH
from monitor.inference.torch_network import TorchNetwork
from monitor.model.recipe_version import RecipeVersion
from monitor.teachers.architectures import NetworkLock

Network = Callable[[Tensor], Tensor]
"""Normalised images (N, 3, H, W) to anomaly maps (N, H, W)."""


@runtime_checkable
class LaneNetwork(Protocol):
    """A network that computes several images at once, each in a lane of its own."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """As every network."""

    def stream(
        self, images: Iterator[NDArray[np.float32] | None]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The map of each image as soon as it is done, with the place of its image. The next image is taken
        when a lane is free; None takes none."""


def build_network(
    recipe: RecipeVersion,
    runtime: str,
    precision: str,
    device: torch.device,
    *,
    parallel: int = 1,
    network_lock: NetworkLock | None = None,
) -> Network:
    """The network, without a second look. Raises RecipeError.

    OpenVINO computes `parallel` images at a time.
    """
    if runtime == TORCH:
        return TorchNetwork(
            build_networks(recipe, network_lock),
            device,
            half=precision == F16,
            bfloat16=precision == BF16,
            network_lock=network_lock,
        )
    from monitor.inference.openvino_network import OpenVinoNetwork, build_model

    model = build_model(recipe, INT8 if precision == INT8 else F32, network_lock)
    return OpenVinoNetwork(model, torch.get_num_threads(), parallel, bfloat16=precision == BF16)
