"""EfficientNet-Lite0 up to its sixth stage: the teacher that the memory of good features has of its own.

It was trained on photographs and knows what things look like as a whole. It sees the image at half its
resolution, so it costs little beside a ResNet-18; details are for the other teacher. The weights are carried
in this package (NOTICE says where they come from). It knows nothing of recipes or memories.

The network is that of Tan and Le (2019), in the Lite variant without squeeze and excitation. Batch
normalisation is folded into the convolutions (`monitor.teachers.lite_weights`), so the weights are those of
convolutions alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monitor.images.preprocessing import DEVIATION, MEAN
from monitor.model.weights import fingerprint
from monitor.teachers.architectures import Teacher, check_finite, fill, read_tensors, trunk_weights
from monitor.teachers.weight_files import LITE_FILE, LITE_TEACHER, TeacherError

ARCHITECTURE = "efficientnet_lite0"

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
)
"""By stage: expansion, side of the kernel, stride of the first block, channels, blocks."""
STEM_CHANNELS = 32
CHANNELS = (STAGES[-2][3], STAGES[-1][3])
"""Of the two levels."""
_MEAN_LEVEL, _LEVEL_SPREAD = 127, 128
"""The network was trained on grey levels less this mean, divided by this spread."""
_HALVED_FROM = 256 * 256
"""Images of at least so many pixels are looked at in half their resolution. Smaller ones would have fewer
than 16 places at the last level: of the demo's parts at 192 px, 3 to 7 of 20 defects passed then, and none at
the whole resolution."""


class LiteTrunk(nn.Module):
    """EfficientNet-Lite0 without its last stage, on an image of half the resolution.

    Input (N, 3, H, W), ImageNet-normalised RGB; output stages 5 and 6: about (N, 112, H/32, W/32) and
    (N, 192, H/64, W/64), each side rounded up, and twice as large each way for an image of fewer than 256x256
    pixels. The values have both signs. Of an odd side that is halved the last row or column is not looked at.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, deviation = torch.tensor(MEAN), torch.tensor(DEVIATION)
        # Not in the file: they follow from the two normalisations.
        self.register_buffer("scale", (deviation * 255 / _LEVEL_SPREAD)[:, None, None], persistent=False)
        offset = (mean * 255 - _MEAN_LEVEL) / _LEVEL_SPREAD
        self.register_buffer("offset", offset[:, None, None], persistent=False)
        self.stem = _HalvingConvolution(3, STEM_CHANNELS, 3)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for expansion, side, stride, own, blocks in STAGES:
            stage = [_Block(channels, own, expansion, side, stride)]
            stage += [_Block(own, own, expansion, side, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            channels = own

    def forward(self, images: Tensor) -> list[Tensor]:
        # The images may be bfloat16 where this trunk is float32.
        seen = images.to(self.scale.dtype)
        if seen.shape[-2] * seen.shape[-1] >= _HALVED_FROM:
            seen = F.avg_pool2d(seen, 2)
        levels = [F.relu6(self.stem(seen * self.scale + self.offset))]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return levels[-2:]


class _HalvingConvolution(nn.Conv2d):
    """A convolution with stride 2 whose outputs lie where TensorFlow's padding "SAME" puts them in an image
    of an even size; odd sizes are rounded up.

    TensorFlow pads less before than behind. Here both sides get more, and the first output is dropped: that
    is faster than a padded copy.
    """

    def __init__(self, in_channels: int, out_channels: int, side: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, side, 2, padding=(side + 1) // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, 1:, 1:]


class _Block(nn.Module):
    """An inverted residual block (Sandler et al. 2018, figure 3b)."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, side: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = nn.Conv2d(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise: nn.Module
        if stride == 2:
            self.depthwise = _HalvingConvolution(hidden, hidden, side, groups=hidden)
        else:
            self.depthwise = nn.Conv2d(hidden, hidden, side, padding=side // 2, groups=hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1)
        self._has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        result: Tensor = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + result if self._has_shortcut else result


def load_lite_teacher(file: Path = LITE_FILE) -> Teacher:
    """The carried teacher, frozen. Raises TeacherError."""
    trunk = LiteTrunk()
    try:
        fill(trunk, read_tensors(file))
        check_finite(trunk)
    except TeacherError as error:
        raise TeacherError(f"{file}: {error}: install the program again") from None
    trunk.eval().requires_grad_(False)
    return Teacher(LITE_TEACHER, ARCHITECTURE, trunk, fingerprint(trunk_weights(trunk)), file.name)
