"""EfficientNet-Lite0 as it was published: with batch normalisation, and TensorFlow's padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monitor.teachers.lite_trunk import STAGES, STEM_CHANNELS


class _Block(nn.Module):
    """A block as it was published, with batch normalisation."""

    def __init__(self, channels: int, out: int, expansion: int, side: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, side, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._project_conv = nn.Conv2d(hidden, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)
        self._shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = F.relu6(self._bn1(self._depthwise_conv(_same(y, self._depthwise_conv))))
        y = self._bn2(self._project_conv(y))
        return y + x if self._shortcut else y


class Published(nn.Module):
    """EfficientNet-Lite0 to its sixth stage as it was published."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, eps=1e-3)
        blocks, channels = [], STEM_CHANNELS
        for expansion, side, stride, out, count in STAGES:
            for block in range(count):
                blocks.append(_Block(channels, out, expansion, side, stride if block == 0 else 1))
                channels = out
        self._blocks = nn.ModuleList(blocks)

    def forward(self, grey_levels: Tensor) -> list[Tensor]:
        """Of (N, 3, H, W), 0 to 255."""
        x = (grey_levels - 127) / 128
        x = F.relu6(self._bn0(self._conv_stem(_same(x, self._conv_stem))))
        outputs = [x := block(x) for block in self._blocks]
        return [outputs[sum(stage[4] for stage in STAGES[:5]) - 1], outputs[-1]]


def _same(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """TensorFlow's padding "SAME"."""
    side, stride = convolution.kernel_size[0], convolution.stride[0]
    widths = []
    for length in (x.shape[-1], x.shape[-2]):
        total = max((-(-length // stride) - 1) * stride + side - length, 0)
        widths += [total // 2, total - total // 2]
    return F.pad(x, widths)


def published_lite() -> Published:
    """The network with random weights, and the statistics of a few random images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Published()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                module.momentum = 1.0
        with torch.no_grad():
            # Takes the statistics of these images.
            network.train()(torch.rand(8, 3, 64, 64) * 255)
    return network.eval()


def published_weights() -> dict[str, Tensor]:
    """Its weights by their published names."""
    return published_lite().state_dict()
