"""Makes a small teacher from a large one: a ResNet trunk that imitates the features of a pretrained network.

The trunk learns the source's three feature levels through 1×1 convolutions, from procedural images alone. It
gives a plant without a network, and the demo, a trained teacher to start from.

This module must never read a photograph (see `monitor.teachers.procedural_images`): the made teacher's
licence and lineage rest on that. It never downloads, and writes one file, whole. It knows nothing of how
teachers are found and used (`monitor.teachers.weight_files`, `monitor.teachers.architectures`).
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from monitor.images import preprocessing
from monitor.system.atomic_file import write_whole
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import build_trunk, load_trunk
from monitor.teachers.procedural_images import image_batches

STUDENTS = ("resnet18", "resnet34")
"""The architectures that can learn: small ones whose levels have these channels and strides."""
CHANNELS = (64, 128, 256)
STRIDES = (4, 8, 16)

FIRST_CELLS: Mapping[str, tuple[int, int, int]] = MappingProxyType({"squeezenet1_1": (3, 7, 15)})
"""By source, the input pixel (row and column) in the middle of each level's cell 0.

It is 0 for networks that pad every layer: the student, and every other source in
`monitor.teachers.architectures`. In a network without padding the first cell lies further inside."""

SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-4, 6e4
"""The range of variances that float16 holds with all its digits."""

_EPSILON = 1e-5
"""The value that torch's batch normalisation adds to a variance."""

DEFAULT_STEPS = 4_000
"""About an hour on two processor cores; the carried teacher was made with half as many."""

_MEASURED_BATCHES = 32
"""The batches of images from which the source's means and deviations are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationSettings:
    """How a teacher is made. Raises ValueError for impossible values.

    Training ends after `steps`, or earlier after `minutes`. With `minutes` unset, the same settings on the
    same machine give the same weights, bit for bit.
    """

    source: str = "squeezenet1_1"
    """The architecture of the network to learn from, one of `monitor.teachers.architectures.LEVELS`."""
    student: str = "resnet18"
    """The architecture that learns, one of `STUDENTS`."""
    steps: int | None = None
    """Unset: `DEFAULT_STEPS`, or no limit if `minutes` is set."""
    minutes: float | None = None
    seed: int = 0
    side: int = 112
    """The student's input in pixels, a multiple of 16."""
    batch: int = 32
    canvases: int = 64
    """The number of drawn canvases that images are cut from at any time."""
    rate: float = 2e-3
    """The learning rate at its highest."""
    averaging: float = 0.999
    """The decay of the running mean of the weights; the mean is what is written."""
    bfloat16: bool = False
    """The student's forward pass in bfloat16: half the time on processors that calculate in it."""
    save_every_s: float = 300.0

    def __post_init__(self) -> None:
        if self.side < 32 or self.side % 16:
            raise ValueError(f"side {self.side} is not a multiple of 16, at least 32")
        if self.step_limit < 1 or self.batch < 2:
            raise ValueError(f"steps {self.steps} must be at least 1, batch {self.batch} at least 2")
        if self.student not in STUDENTS:
            raise ValueError(f"student {self.student!r} can't be made; there are: {', '.join(STUDENTS)}")

    @property
    def step_limit(self) -> int:
        if self.steps is not None:
            return self.steps
        return DEFAULT_STEPS if self.minutes is None else sys.maxsize

    def fraction_done(self, steps: int, seconds: float) -> float:
        """0 at the start of training, 1 at its end."""
        by_clock = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(steps / self.step_limit, by_clock))


@dataclass(frozen=True, slots=True)
class DistillationResult:
    """The state of a distillation so far, or at its end."""

    steps: int
    seconds: float
    unexplained: tuple[float, float, float]
    """By level, the share of the source's variance that the trunk misses: a mean over about the last hundred
    steps."""


def make_teacher(
    settings: DistillationSettings,
    *,
    source_weights: Path,
    out: Path,
    say: Callable[[str], None] | None = None,
    progress: Progress = SILENT,
) -> DistillationResult:
    """Distils a large network into a small trunk and writes it to `out` (safetensors, float16).

    A ResNet-18 takes 5.6 MB. `source_weights` is a .safetensors or .pth file with the source's weights. A
    usable file lies at `out` after every `settings.save_every_s` seconds, so that an interrupted or failed
    training leaves its last state; each save gives `say` one line.

    Raises FloatingPointError when a value is no longer finite, OSError when `out` can't be written, and
    `monitor.teachers.architectures.TeacherError` when the source's weights can't be used.
    """
    distillation = _Distillation(settings, source_weights)
    about = _metadata(settings, source_weights)
    began = saved = time.monotonic()
    result = DistillationResult(0, 0.0, (1.0, 1.0, 1.0))
    fraction = 0.0
    with ThreadPoolExecutor(1, thread_name_prefix="drawing") as drawing:
        coming = drawing.submit(next, distillation.images)
        while fraction < 1:
            images = coming.result()
            coming = drawing.submit(next, distillation.images)
            shares = distillation.step(images, result.steps, fraction)
            now = time.monotonic()
            result = _after_step(result, shares, now - began)
            fraction = settings.fraction_done(result.steps, result.seconds)
            missed = f"{_percent(result.unexplained)} unexplained"
            progress.update("teacher", round(1000 * fraction), 1000, missed)
            if fraction >= 1 or now - saved >= settings.save_every_s:
                saved = now
                _write(out, distillation.trunk_weights(), about | _figures(result, settings.batch))
                if say is not None:
                    say(f"{out.name}: {result.steps} steps, {missed}")
    return result


def storable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trunk's weights in half precision, with which the trunk calculates the same as with the given ones.

    Variances of batch normalisation that are too small or too large for float16 are moved into its range, and
    the scale beside them is corrected: a channel that is always 0 must not divide by a variance rounded to 0.
    Raises FloatingPointError when a value is not finite in half precision.
    """
    exact = {name: tensor.detach().clone() for name, tensor in state.items()}
    for name in [n for n in exact if n.endswith("running_var")]:
        variance = exact[name].clamp(SMALLEST_VARIANCE, LARGEST_VARIANCE)
        gain = ((variance + _EPSILON) / (exact[name] + _EPSILON)).sqrt()
        exact[name.removesuffix("running_var") + "weight"] *= gain
        exact[name] = variance
    halved = {n: t.half().contiguous() if t.is_floating_point() else t for n, t in exact.items()}
    broken = [name for name, tensor in halved.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise FloatingPointError(f"not finite in half precision: {', '.join(broken)}")
    return halved


class _Distillation:
    """The network that learns, what it learns from, and the running mean of its weights."""

    def __init__(self, settings: DistillationSettings, source_weights: Path) -> None:
        # The seed covers everything random here, and leaves the caller's random numbers as they were.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._targets = _Targets(settings.source, source_weights)
            # Endless batches for `step`: normalised images with the margin of the targets.
            self.images = _normalise(
                image_batches(
                    seed=settings.seed,
                    side=settings.side + self._targets.margin,
                    batch=settings.batch,
                    pool=settings.canvases,
                )
            )
            channels = self._targets.measure([next(self.images) for _ in range(_MEASURED_BATCHES)])
            self._learner = _Learner(settings.student, channels).to(memory_format=torch.channels_last).train()
        self._settings = settings
        self._mean = AveragedModel(self._learner, avg_fn=_running_mean(settings.averaging), use_buffers=True)
        self._optimiser = torch.optim.AdamW(self._learner.parameters(), lr=settings.rate, weight_decay=1e-2)

    def step(self, images: Tensor, number: int, fraction: float) -> list[float]:
        """One training step; returns the unexplained share of variance by level.

        `number` is the count of steps before this one, `fraction` the part of the training that is done.
        """
        _set_rate(self._optimiser, self._settings.rate, number, fraction)
        margin = self._targets.margin
        with torch.autocast("cpu", torch.bfloat16, enabled=self._settings.bfloat16):
            outputs = self._learner(images[..., margin:, margin:])
        wanted = self._targets(images, outputs)
        losses = torch.stack(
            [nn.functional.mse_loss(o.float(), w) for o, w in zip(outputs, wanted, strict=True)]
        )
        loss = losses.sum()
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError("the loss is no longer finite: try a lower rate")
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimiser.step()
        self._mean.update_parameters(self._learner)
        return [float(one) / float(w.square().mean()) for one, w in zip(losses.detach(), wanted, strict=True)]

    def trunk_weights(self) -> dict[str, Tensor]:
        """The running mean of the trunk's weights, by torchvision's names."""
        prefix = "module.trunk."
        state = self._mean.state_dict()
        return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}


class _Learner(nn.Module):
    """The trunk with a 1×1 convolution per level, so that its channels need not be in the source's order."""

    def __init__(self, student: str, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.trunk = build_trunk(student)
        self.heads = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(CHANNELS, channels, strict=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """float (N, 3, H, W) → an estimate of the source's levels, (N, C_l, H/stride_l, W/stride_l)."""
        return [head(level) for head, level in zip(self.heads, self.trunk(images), strict=True)]


class _Targets:
    """The source's features, standardised per channel, on the grid of the student's.

    The source's input has `margin` more pixels at the top and left, so that the cells of both networks lie on
    the same pixels: features that are most of a cell away can't be learnt well.
    """

    def __init__(self, source: str, weights: Path) -> None:
        self._trunk = load_trunk(source, weights).to(memory_format=torch.channels_last)
        first = FIRST_CELLS.get(source, (0, 0, 0))
        self.margin = max(first)
        self._starts = [(self.margin - pixel) // s for pixel, s in zip(first, STRIDES, strict=True)]
        self._scale: list[tuple[Tensor, Tensor]] = []

    def measure(self, batches: Sequence[Tensor]) -> tuple[int, int, int]:
        """Takes each channel's mean and deviation over normalised images; returns the channels per level."""
        for features in zip(*(self._raw(batch) for batch in batches), strict=True):
            level = torch.cat(features)
            mean, deviation = level.mean((0, 2, 3)), level.std((0, 2, 3))
            # The lower bound keeps a channel that is nearly always 0 from weighing as much as a busy one.
            deviation = deviation.clamp(min=0.2 * float(deviation.mean()))
            self._scale.append((mean[:, None, None], deviation[:, None, None]))
        first, second, third = (len(mean) for mean, _ in self._scale)
        return first, second, third

    def __call__(self, images: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        """Targets for normalised images that include the margin, as many cells as the tensors of `like`."""
        return [
            ((raw - mean) / deviation).clamp(-5, 5)[..., : level.shape[-2], : level.shape[-1]]
            for raw, (mean, deviation), level in zip(self._raw(images), self._scale, like, strict=True)
        ]

    @torch.no_grad()
    def _raw(self, images: Tensor) -> list[Tensor]:
        levels = self._trunk(images)
        return [level[..., start:, start:] for level, start in zip(levels, self._starts, strict=True)]


def _normalise(batches: Iterator[NDArray[np.uint8]]) -> Iterator[Tensor]:
    """uint8 (N, H, W, 3) → float32 (N, 3, H, W) in channels-last memory, normalised as for the scorer."""
    mean = torch.tensor(preprocessing.MEAN)[:, None, None]
    deviation = torch.tensor(preprocessing.DEVIATION)[:, None, None]
    for images in batches:
        yield (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, fraction: float) -> None:
    """The learning rate rises over 100 steps and falls along half a cosine to zero."""
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * fraction))


def _running_mean(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """A running mean of the weights. Its decay grows with the steps, so that the random start is
    forgotten."""

    def update(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        weight = min(decay, (1 + int(count)) / (10 + int(count)))
        return torch.lerp(new, mean, weight) if mean.is_floating_point() else new

    return update


def _after_step(before: DistillationResult, shares: Sequence[float], seconds: float) -> DistillationResult:
    weight = 1.0 if before.steps == 0 else 0.02
    first, second, third = (b + weight * (s - b) for b, s in zip(before.unexplained, shares, strict=True))
    return DistillationResult(before.steps + 1, seconds, (first, second, third))


def _metadata(settings: DistillationSettings, source_weights: Path) -> dict[str, str]:
    """What a made teacher's file states of its origin.

    `made_by` and `images` hold these modules' names as the carried teacher's file has them: they are part of
    the file format, and do not follow a move of the code.
    """
    s = settings
    return {
        "format": "pt",
        "architecture": f"torchvision {s.student}, conv1 to layer3",
        "input": "RGB, ImageNet mean and deviation",
        "made_by": "monitor.distillation.make_teacher",
        "images": "procedural only (monitor.procedural)",
        "source": s.source,
        "source_sha256": hashlib.sha256(source_weights.read_bytes()).hexdigest(),
        "settings": f"seed {s.seed}, steps {s.steps}, minutes {s.minutes}, side {s.side}, batch {s.batch}, "
        f"canvases {s.canvases}, rate {s.rate:g}, averaging {s.averaging:g}, bfloat16 {s.bfloat16}",
        "torch": torch.__version__,
    }


def _figures(result: DistillationResult, batch: int) -> dict[str, str]:
    """The part of the metadata that changes from save to save."""
    return {
        "steps": str(result.steps),
        "images_seen": str(result.steps * batch),
        "minutes": f"{result.seconds / 60:.1f}",
        "unexplained_variance": _percent(result.unexplained),
    }


def _percent(shares: Sequence[float]) -> str:
    return " / ".join(f"{share:.1%}" for share in shares)


def _write(out: Path, state: Mapping[str, Tensor], about: dict[str, str]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, save(storable(state), metadata=about))
