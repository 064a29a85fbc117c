"""The networks, the training loss and the anomaly map of the paper's method.

It imports torch alone and knows nothing of files, image formats, devices or thresholds.

The paper is Student-Teacher Feature Pyramid Matching (Wang, Han, Ding, Huang; BMVC 2021, arXiv 2103.04257). A
teacher network, trained to classify photographs, computes features of an image at three depths. A student
network of the same shape is trained on good images only and learns to compute the same features. Where the
two differ, the image shows something that no good image had. This module has, from top to bottom: the trunk
that gives the three levels, the loss that trains the student, the anomaly map, and the map at the resolution
of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Features = Sequence[Tensor]
"""One float tensor for each level, the finest level first: (N, C_l, H_l, W_l) for the features of N images,
(C_l,) for a number for each channel. The trunks here have three levels; loss and map take any number."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += shortcut
        result: Tensor = self.relu(y)
        return result


class ResNetTrunk(nn.Module):
    """ResNet-18 (`blocks` 2, 2, 2) or ResNet-34 (3, 4, 6) from its first convolution to layer3 (section 3.2).

    The parameters have torchvision's names and shapes, so torchvision's weights load into it. It is written
    here because importing torchvision takes as long as importing torch, and a scoring process that was killed
    must run again within seconds.

    Input (N, 3, H, W), ImageNet-normalised RGB; output layer1, layer2, layer3: (N, 64, H/4, W/4),
    (N, 128, H/8, W/8), (N, 256, H/16, W/16).
    """

    def __init__(self, blocks: tuple[int, int, int] = (2, 2, 2)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _build_stage(64, 64, blocks[0], stride=1)
        self.layer2 = _build_stage(64, 128, blocks[1], stride=2)
        self.layer3 = _build_stage(128, 256, blocks[2], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        level1 = self.layer1(x)
        level2 = self.layer2(level1)
        level3 = self.layer3(level2)
        return [level1, level2, level3]


def _build_stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


class ScaledTrunk(nn.Module):
    """A trunk that divides each channel by the channel's standard deviation over good images.

    This is not in the paper. Without it, the few channels with the largest values dominate a pixel's vector
    once the vector is scaled to length 1, and a defect that only the other channels show is lost. Teacher and
    student are divided by the same numbers, so the paper's loss and anomaly map apply unchanged.
    Measured gains: `tests/benchmarks/README.md`.
    """

    def __init__(self, trunk: nn.Module, deviations: Features) -> None:
        """`deviations` has a float tensor (C_l,) for each level; no value may be 0."""
        super().__init__()
        self.trunk = trunk
        self._names = [f"factor{number}" for number in range(1, len(deviations) + 1)]
        for name, deviation in zip(self._names, deviations, strict=True):
            self.register_buffer(name, 1 / deviation[:, None, None])

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = self.trunk(x)
        return [levels[number] * getattr(self, name) for number, name in enumerate(self._names)]


def matching_loss(teacher_features: Features, student_features: Features) -> Tensor:
    """The loss that trains the student: a scalar (equations 1 to 3).

    The squared distance between the teacher's and the student's feature vector of a pixel, each scaled to
    length 1, is averaged over pixels and batch and summed over levels. As in the official code, the factor
    1/2 of equation 1 is left out. Raises ValueError when the two do not have the same levels.
    """
    _check_levels(teacher_features, student_features)
    distances = [_distance(t, s).mean() for t, s in zip(teacher_features, student_features, strict=True)]
    return torch.stack(distances).sum()


def anomaly_map(teacher_features: Features, student_features: Features) -> Tensor:
    """The difference between teacher and student at each pixel of the first level: float32 (N, H_1, W_1)
    (section 3.3).

    The squared distances of each level are resized to the first level's resolution (bilinear, half-pixel
    centres) and multiplied over the levels. The features may be half precision; distances and product are
    always float32, because a product of three small numbers is below the range of half precision. Raises
    ValueError when the two do not have the same levels.
    """
    _check_levels(teacher_features, student_features)
    rows, columns = teacher_features[0].shape[-2:]
    product: Tensor | None = None
    for t, s in zip(teacher_features, student_features, strict=True):
        level = _distance(t.float(), s.float()).unsqueeze(1)
        level = F.interpolate(level, size=(rows, columns), mode="bilinear", align_corners=False)
        product = level if product is None else product * level
    if product is None:
        raise ValueError("an anomaly map needs at least one level")
    return product.squeeze(1)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, H, W) at another resolution: (N, *size), bilinear with half-pixel centres.

    The product map is brought to the resolution of the network's input (section 3.3). Without tiles, the
    maximum of the result is the image's score; with tiles, the score is the maximum of the
    map of the whole image (`monitor.images.tiling`).
    """
    larger = F.interpolate(maps.unsqueeze(1), size=size, mode="bilinear", align_corners=False)
    return larger.squeeze(1)


def _distance(t: Tensor, s: Tensor) -> Tensor:
    """Squared distance of the channel vectors scaled to length 1: (N, H, W), from 0 to 4."""
    return (F.normalize(t, dim=1) - F.normalize(s, dim=1)).square().sum(dim=1)


def _check_levels(teacher_features: Features, student_features: Features) -> None:
    shapes = [tuple(t.shape) for t in teacher_features], [tuple(s.shape) for s in student_features]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise ValueError(f"teacher and student must give the same levels, not {shapes[0]} and {shapes[1]}")
