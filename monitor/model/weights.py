"""A network's weights as named arrays: to and from safetensors bytes, and their fingerprint.

Imports no torch, so that a recipe can be checked without waiting for it; nothing here is ever pickled.
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
    """These bytes are no weights; the message says what is wrong with them."""


def to_bytes(weights: Weights) -> bytes:
    """A safetensors file of the weights."""
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in weights.items()})


def from_bytes(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file. Raises WeightsError."""
    try:
        return dict(safetensors.numpy.load(content))
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"not a readable safetensors file ({error})") from None


def fingerprint(weights: Weights) -> str:
    """sha256 (hex) of what the weights say, whatever file they came from.

    Over the arrays in the order of their names: name, shape, then the values as little-endian float32. So
    the same weights from .pth and from safetensors, or in half precision and widened again, agree. Counters
    (`num_batches_tracked`) are left out: they change nothing that is computed.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.endswith("num_batches_tracked"):
            continue
        values = np.ascontiguousarray(weights[name], dtype="<f4")
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()
