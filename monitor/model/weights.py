"""A network's weights as named arrays: to and from safetensors bytes, and their fingerprint.

It imports no torch, so that a recipe is checked without the seconds that importing torch takes. Nothing is
pickled. It knows nothing of architectures or files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from monitor.errors import LineMonitorError

Weights = Mapping[str, NDArray[Any]]


class WeightsError(LineMonitorError):
    """The bytes are not a set of weights; the message is one line with the reason."""


def to_bytes(weights: Weights) -> bytes:
    """The weights in the safetensors format."""
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in weights.items()})


def from_bytes(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file. Raises WeightsError."""
    try:
        return dict(safetensors.numpy.load(content))
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"not a readable safetensors file ({error})") from None


def fingerprint(weights: Weights) -> str:
    """sha256 (hex) of the weights' names, shapes and values.

    The hash covers the arrays in the order of their names: name, shape, then the values as little-endian
    float32. Equal weights therefore have one fingerprint, whether they come from .pth or safetensors, and
    also after half precision was widened to float32. The counters `num_batches_tracked` are left out, because
    no computed value depends on them.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.endswith("num_batches_tracked"):
            continue
        values = np.ascontiguousarray(weights[name], dtype="<f4")
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()
