"""Makes a small teacher from a large one: a ResNet trunk that knows what a pretrained network sees.

The trunk learns the source's three feature levels through 1×1 convolutions, looking at procedural images
only, so that a plant without a network, and the demo, have a real teacher to start from.

Must never read a photograph (see `monitor.teachers.procedural_images`), never download, and never write
anything but the one
file asked for, whole. How the file is found and used is `monitor.teachers.architectures`'s business.
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
"""What can learn: the small ones, whose levels have these channels and lie at these strides."""
CHANNELS = (64, 128, 256)
STRIDES = (4, 8, 16)

FIRST_CELLS: Mapping[str, tuple[int, int, int]] = MappingProxyType({"squeezenet1_1": (3, 7, 15)})
"""By source, the input pixel (both axes) at the middle of each level's cell 0.

It is 0 for networks that pad every layer, as all others that `monitor.teachers.architectures` knows and
the ResNet-18 that
learns do; a network that doesn't pad starts further inside."""

SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-4, 6e4
"""What float16 holds with all its digits."""

_EPSILON = 1e-5
"""What torch's batch normalisation adds to a variance."""

DEFAULT_STEPS = 4_000
"""About an hour on two processor cores; the carried teacher came of half as many."""


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a distillation came to, or has come to so far."""

    steps: int
    seconds: float
    unexplained: tuple[float, float, float]
    """Share of the source's variance that the trunk misses, by level: a mean over the last hundred steps."""


def make_teacher(
    *,
    source_weights: Path,
    out: Path,
    source: str = "squeezenet1_1",
    student: str = "resnet18",
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    side: int = 112,
    batch: int = 32,
    canvases: int = 64,
    rate: float = 2e-3,
    averaging: float = 0.999,
    bfloat16: bool = False,
    save_every_s: float = 300.0,
    say: Callable[[str], None] | None = None,
    progress: Progress = SILENT,
) -> Distilled:
    """Distils `source` into a small trunk and writes it to `out` (safetensors, float16; ResNet-18: 5.6 MB).

    `source` is an architecture that `monitor.teachers.architectures` knows, `source_weights` a
    .safetensors or .pth file
    with its weights; `student` is one of STUDENTS. Training ends after `steps` (4,000, or with `minutes` no
    number of them), or earlier after `minutes`; with `minutes` unset, the same arguments on the same machine
    give the same weights. A usable file lies at `out` after every `save_every_s` seconds, also when training
    is interrupted or breaks down later; `say` hears of each. `side` is the trunk's input in pixels, a
    multiple of 16; `canvases` is how many pictures there are to cut images from at any time. `averaging` is
    the decay of the running mean of the weights, which is what is written. `bfloat16` halves the time on
    processors that calculate in it.

    Raises ValueError for impossible arguments, FloatingPointError when training breaks down, OSError when
    `out` can't be written, and `monitor.teachers.architectures.TeacherError` when the source's weights
    can't be used.
    """
    limit = (DEFAULT_STEPS if minutes is None else sys.maxsize) if steps is None else steps
    if side < 32 or side % 16:
        raise ValueError(f"side {side} is not a multiple of 16, at least 32")
    if limit < 1 or batch < 2:
        raise ValueError(f"steps {steps} must be at least 1, batch {batch} at least 2")
    if student not in STUDENTS:
        raise ValueError(f"student {student!r} can't be made; there are: {', '.join(STUDENTS)}")
    # Seeded, but leaving the caller's random numbers as they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        targets = _Targets(source, source_weights)
        pictures = image_batches(seed=seed, side=side + targets.margin, batch=batch, pool=canvases)
        views = _normalised(pictures)
        channels = targets.measure([next(views) for _ in range(32)])
        learner = _Learner(student, channels).to(memory_format=torch.channels_last).train()
    mean = AveragedModel(learner, avg_fn=_running_mean(averaging), use_buffers=True)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=rate, weight_decay=1e-2)
    about = {
        "format": "pt",
        "architecture": f"torchvision {student}, conv1 to layer3",
        "input": "RGB, ImageNet mean and deviation",
        "made_by": "monitor.distillation.make_teacher",
        "images": "procedural only (monitor.procedural)",
        "source": source,
        "source_sha256": hashlib.sha256(source_weights.read_bytes()).hexdigest(),
        "settings": f"seed {seed}, steps {steps}, minutes {minutes}, side {side}, batch {batch}, "
        f"canvases {canvases}, rate {rate:g}, averaging {averaging:g}, bfloat16 {bfloat16}",
        "torch": torch.__version__,
    }
    began = saved = time.monotonic()
    state = Distilled(0, 0.0, (1.0, 1.0, 1.0))
    fraction = 0.0
    with ThreadPoolExecutor(1, thread_name_prefix="drawing") as drawing:
        coming = drawing.submit(next, views)
        while fraction < 1:
            images = coming.result()
            coming = drawing.submit(next, views)
            _set_rate(optimiser, rate, state.steps, fraction)
            shares = _step(learner, targets, optimiser, images, bfloat16=bfloat16)
            mean.update_parameters(learner)
            now = time.monotonic()
            state = _after(state, shares, now - began)
            fraction = min(1.0, max(state.steps / limit, state.seconds / (60 * minutes) if minutes else 0.0))
            missed = f"{_percent(state.unexplained)} unexplained"
            progress.update("teacher", round(1000 * fraction), 1000, missed)
            if fraction >= 1 or now - saved >= save_every_s:
                saved = now
                _write(out, _trunk_of(mean), about | _made(state, batch))
                if say is not None:
                    say(f"{out.name}: {state.steps} steps, {missed}")
    return state


def storable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trunk's weights in half precision, which calculate the same as the given ones.

    Variances of batch normalisation too small or too large for float16 are moved into its range, and the
    scale beside them corrected, so that a channel that never fires does not divide by a rounded zero. Raises
    FloatingPointError when something is not finite in half precision.
    """
    exact = {name: tensor.detach().clone() for name, tensor in state.items()}
    for name in [n for n in exact if n.endswith("running_var")]:
        held = exact[name].clamp(SMALLEST_VARIANCE, LARGEST_VARIANCE)
        gain = ((held + _EPSILON) / (exact[name] + _EPSILON)).sqrt()
        exact[name.removesuffix("running_var") + "weight"] *= gain
        exact[name] = held
    halved = {n: t.half().contiguous() if t.is_floating_point() else t for n, t in exact.items()}
    broken = [name for name, tensor in halved.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise FloatingPointError(f"not finite in half precision: {', '.join(broken)}")
    return halved


class _Learner(nn.Module):
    """The trunk with a 1×1 convolution per level, so that it may order its own channels as it likes."""

    def __init__(self, student: str, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.trunk = build_trunk(student)
        self.heads = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(CHANNELS, channels, strict=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """float (N, 3, H, W) → what the source's levels would be, (N, C_l, H/stride_l, W/stride_l)."""
        return [head(level) for head, level in zip(self.heads, self.trunk(images), strict=True)]


class _Targets:
    """The source's features, standardised per channel, on the grid of the trunk's.

    The source sees `margin` more pixels at the top and left, so that the cells of both lie on the same
    pixels: features that are most of a cell away can't be learnt well.
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
            # A channel that hardly ever fires would otherwise weigh as much as the busy ones.
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


def _step(
    learner: _Learner, targets: _Targets, optimiser: torch.optim.Optimizer, images: Tensor, *, bfloat16: bool
) -> list[float]:
    """One step on normalised images with their margin; returns the unexplained shares of variance."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        said = learner(images[..., targets.margin :, targets.margin :])
    meant = targets(images, said)
    losses = torch.stack([nn.functional.mse_loss(s.float(), m) for s, m in zip(said, meant, strict=True)])
    loss = losses.sum()
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError("the loss is no longer finite: try a lower rate")
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
    return [float(one) / float(m.square().mean()) for one, m in zip(losses.detach(), meant, strict=True)]


def _trunk_of(mean: AveragedModel) -> dict[str, Tensor]:
    prefix = "module.trunk."
    held = mean.state_dict()
    return {name.removeprefix(prefix): held[name] for name in held if name.startswith(prefix)}


def _normalised(batches: Iterator[NDArray[np.uint8]]) -> Iterator[Tensor]:
    """uint8 (N, H, W, 3) → float32 (N, 3, H, W) in channels-last memory, normalised as the scorer does."""
    mean = torch.tensor(preprocessing.MEAN)[:, None, None]
    deviation = torch.tensor(preprocessing.DEVIATION)[:, None, None]
    for images in batches:
        yield (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, fraction: float) -> None:
    """A short warm-up, then half a cosine to zero."""
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * fraction))


def _running_mean(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """A running mean that forgets the random start: over all weights so far, later over the last ones."""

    def update(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return torch.lerp(new, mean, kept) if mean.is_floating_point() else new

    return update


def _after(before: Distilled, shares: Sequence[float], seconds: float) -> Distilled:
    share = 1.0 if before.steps == 0 else 0.02
    first, second, third = (b + share * (s - b) for b, s in zip(before.unexplained, shares, strict=True))
    return Distilled(before.steps + 1, seconds, (first, second, third))


def _made(state: Distilled, batch: int) -> dict[str, str]:
    return {
        "steps": str(state.steps),
        "images_seen": str(state.steps * batch),
        "minutes": f"{state.seconds / 60:.1f}",
        "unexplained_variance": _percent(state.unexplained),
    }


def _percent(shares: Sequence[float]) -> str:
    return " / ".join(f"{share:.1%}" for share in shares)


def _write(out: Path, state: Mapping[str, Tensor], about: dict[str, str]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, save(storable(state), metadata=about))
