"""The student's training loop (the paper's section 3.2): pictures and a teacher in, the best student out.

Knows nothing of files, recipes or thresholds. It must never hand over a student whose loss went astray, never
touch torch's global random state, and never give another student because it was interrupted on the way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.images.preprocessing import Pictures
from monitor.model.weights import Weights
from monitor.pyramid import Evened, Features, anomaly_map, matching_loss
from monitor.system.memory import installed
from monitor.system.progress import Progress
from monitor.teachers.architectures import build_trunk, trunk_weights
from monitor.training.checkpoint import Checkpoint, Place
from monitor.training.student_selection import Trial
from monitor.training.teacher_features import Sight

BATCH = 32
_STEPS = 8
_SMALLEST_BATCH = 4
_PIXELS_AT_ONCE = BATCH * 512**2
_FEATURE_BYTES = 2 << 30
"""The teacher's features are kept up to this, and up to an eighth of the machine's memory."""


class TrainingError(LineMonitorError):
    """No recipe came of it; the message is one line with the fix."""


class AstrayError(TrainingError):
    """The loss is no number any more; the same settings would lead there again."""


@dataclass(frozen=True)
class Fitted:
    """The student that was kept, and how it went."""

    student: Weights
    best_epoch: int
    """From 1."""
    losses: tuple[float, ...]
    """The mean training loss of each epoch."""
    select_maps: tuple[float, ...]
    """The mean anomaly map of the select pictures after each epoch."""
    told_apart: tuple[float, ...]
    """How well drawn defects were told from the select pictures after each epoch
    (`monitor.training.student_selection`); empty as
    in the paper."""
    optimiser: str


Watch = Callable[[Sequence[float], Sequence[float]], None]
"""Hears after each epoch of the losses and select maps so far, as in `Fitted`."""


def batch_size(count: int, *, as_paper: bool) -> int:
    """32 as in the paper, whose data sets are some 200 images; less when that makes fewer than 8 steps an
    epoch. 70 magnetic tiles, 20 epochs, SqueezeNet: image AUROC 0.84 in batches of 8, 0.81 in batches of 32.
    """
    return BATCH if as_paper else min(BATCH, max(_SMALLEST_BATCH, count // _STEPS))


def pictures_at_once(picture: Image) -> int:
    """How many pictures of that size go through teacher and student together at most: of 2048x2048 pixels one
    takes 3 GB."""
    return max(1, _PIXELS_AT_ONCE // int(np.prod(picture.shape[:2])))


def fit(
    teacher: nn.Module,
    architecture: str,
    pictures: Pictures,
    train: Sequence[int],
    select: Sequence[int],
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    progress: Progress,
    batch: int,
    as_paper: bool = False,
    deviations: Features | None = None,
    checkpoint: Checkpoint | None = None,
    watch: Watch = lambda losses, select_maps: None,
) -> Fitted:
    """Trains a randomly initialised student of the teacher's architecture on the pictures `train`.

    The student is kept that tells drawn defects from the pictures `select` best, and of equals the one with
    the lowest mean anomaly map on `select`. As in the paper that alone decides, and the optimiser is the
    official one for every architecture. With a checkpoint, a run that was interrupted goes on where it was
    saved last. With `deviations` (`monitor.model.channel_scaling`) teacher and student are
    evened out by them; the weights that are handed over are the trunk's alone. Raises AstrayError when the
    loss is no number any more.
    """
    course = _Course(architecture, seed, device, deviations, as_paper=as_paper)
    if checkpoint is not None and (kept := checkpoint.load()) is not None:
        course.go_on(*kept)
    room = min(_FEATURE_BYTES, installed() // 8)
    network = teacher if deviations is None else Evened(teacher, deviations)
    trial = None if as_paper else Trial(pictures, train, select, seed)
    judged = [*select, *(trial.indices if trial else ())]
    sight = Sight(network, trial or pictures, [*train, *judged], device, room)
    at_once = pictures_at_once(pictures[train[0]])
    note = ""
    while course.epoch <= epochs:
        chunks = list(_chunks(course.next_order(train), batch))
        told = _WithinEpoch(progress, course.epoch, epochs, len(train) + len(judged), note)
        told.seen(min(course.steps * batch, len(train)))
        for chunk in chunks[course.steps :]:
            course.step(_parts(sight, chunk, at_once, told.seen), len(chunk))
            if checkpoint is not None and checkpoint.due(epoch_ended=False):
                checkpoint.save(course.place(), course.arrays())
        judgement = _judged(course.network, sight, select, trial, min(batch, at_once), told.seen)
        course.end_epoch(len(train), *judgement)
        note = f"loss {course.losses[-1]:.4f} map {min(course.select_maps):.3g}"
        progress.update("train", len(course.losses), epochs, note)
        watch(course.losses, course.select_maps)
        if checkpoint is not None and course.epoch <= epochs and checkpoint.due(epoch_ended=True):
            checkpoint.save(course.place(), course.arrays())
    return Fitted(
        course.best,
        course.best_epoch,
        tuple(course.losses),
        tuple(course.select_maps),
        tuple(course.told_apart),
        f"{course.description}, batch {batch}",
    )


class _WithinEpoch:
    """Tells of an epoch while it lasts, by the pictures that were looked at in it: of ten thousand that takes
    minutes. Learning from one takes longer than judging by one, but most are learnt from."""

    def __init__(self, progress: Progress, epoch: int, epochs: int, pictures: int, note: str) -> None:
        self._progress, self._epoch, self._epochs, self._note = progress, epoch, epochs, note
        self._pictures = pictures
        self._seen = 0

    def seen(self, count: int) -> None:
        """So many more; not told of the last, since the epoch's own figures follow."""
        self._seen += count
        if self._seen < self._pictures:
            done = self._epoch - 1 + self._seen / self._pictures
            self._progress.update("train", done, self._epochs, self._note)


class _Course:
    """A student on its way: everything that its next step depends on, and the best student so far."""

    def __init__(
        self,
        architecture: str,
        seed: int,
        device: torch.device,
        deviations: Features | None,
        *,
        as_paper: bool,
    ) -> None:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.student = build_trunk(architecture).to(device).to(memory_format=torch.channels_last)
        self.network = self.student if deviations is None else Evened(self.student, deviations).to(device)
        self._optimiser, self.description = _optimiser(self.student, as_paper=as_paper)
        self._rng = np.random.default_rng(seed)
        self._order = json.dumps(self._rng.bit_generator.state)
        self.epoch = 1
        self.steps = 0
        self._total = 0.0
        self.losses: list[float] = []
        self.select_maps: list[float] = []
        self.told_apart: list[float] = []
        self.best: Weights = {}

    def next_order(self, indices: Sequence[int]) -> list[int]:
        """The order of this epoch."""
        self._order = json.dumps(self._rng.bit_generator.state)
        self.network.train()
        order: list[int] = self._rng.permutation(indices).tolist()
        return order

    def step(self, parts: Iterable[tuple[Tensor, Sequence[Tensor]]], count: int) -> None:
        """One step of the optimiser on `count` images, in parts that fit into memory: (N, 3, H, W) and the
        teacher's levels of them. Mostly that is one part."""
        self._optimiser.zero_grad(set_to_none=True)
        for images, seen in parts:
            loss = matching_loss(seen, self.network(images))
            # The gradients of the parts add up to that of the mean over all.
            (loss * (len(images) / count)).backward()  # type: ignore[no-untyped-call]
            self._total += self._finite(loss.item()) * len(images)
        self._optimiser.step()
        self.steps += 1

    @property
    def best_epoch(self) -> int:
        """From 1; the first of equals. At least one epoch has ended."""
        ranks = list(
            zip(self.told_apart or [0.0] * len(self.losses), (-m for m in self.select_maps), strict=True)
        )
        return ranks.index(max(ranks)) + 1

    def end_epoch(self, count: int, select_map: float, told_apart: float | None) -> None:
        """After `count` images; the student is kept when it is the best so far."""
        self.losses.append(self._total / count)
        self.select_maps.append(self._finite(select_map))
        if told_apart is not None:
            self.told_apart.append(told_apart)
        if self.best_epoch == len(self.losses):
            self.best = {name: array.copy() for name, array in trunk_weights(self.student).items()}
        self.epoch, self.steps, self._total = self.epoch + 1, 0, 0.0
        self._order = json.dumps(self._rng.bit_generator.state)

    def _finite(self, value: float) -> float:
        if not math.isfinite(value):
            raise AstrayError(
                f"the loss went astray in epoch {self.epoch} (it is no number any more): try another --seed "
                "or --teacher; nothing was saved"
            )
        return value

    def place(self) -> Place:
        return Place(
            epoch=self.epoch,
            steps=self.steps,
            total=self._total,
            losses=tuple(self.losses),
            select_maps=tuple(self.select_maps),
            told_apart=tuple(self.told_apart),
            order=self._order,
        )

    def arrays(self) -> Weights:
        """Student, optimiser and best student, for `go_on`."""
        arrays = {f"student/{name}": _array(tensor) for name, tensor in self.student.state_dict().items()}
        for number, values in self._optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser/{number}/{key}": _array(tensor) for key, tensor in values.items()}
        return arrays | {f"best/{name}": array for name, array in self.best.items()}

    def go_on(self, place: Place, arrays: Weights) -> None:
        """From where `place` and `arrays` were taken, of the same architecture and optimiser."""
        parts: dict[str, Weights] = {
            part: {
                name.removeprefix(f"{part}/"): array
                for name, array in arrays.items()
                if name.startswith(part)
            }
            for part in ("student", "optimiser", "best")
        }
        with torch.no_grad():
            for name, tensor in self.student.state_dict().items():
                tensor.copy_(torch.from_numpy(parts["student"][name].reshape(tensor.shape)))
        state: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.student.parameters())
        for name, array in parts["optimiser"].items():
            number, key = name.split("/")
            like = parameters[int(number)]
            # In the parameter's own layout: another one may be added up in another order.
            value = torch.empty(()) if key == "step" else torch.empty_like(like)
            value.copy_(torch.from_numpy(array.reshape(value.shape)))
            state.setdefault(int(number), {})[key] = value
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state})
        self.best = parts["best"]
        self.epoch, self.steps, self._total = place.epoch, place.steps, place.total
        self.losses, self.select_maps = list(place.losses), list(place.select_maps)
        self.told_apart = list(place.told_apart)
        self._order = place.order
        self._rng.bit_generator.state = json.loads(place.order)


def _parts(
    sight: Sight, chunk: Sequence[int], at_once: int, seen: Callable[[int], None]
) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
    """For `_Course.step`. `seen` hears of each part that was learnt from: a step of large pictures may take
    minutes."""
    for part in _chunks(chunk, at_once):
        yield sight.of(part)
        seen(len(part))


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()


def _optimiser(student: nn.Module, *, as_paper: bool) -> tuple[torch.optim.Optimizer, str]:
    """The official one; trunks without batch normalisation learn slowly with it (SqueezeNet on 70 magnetic
    tiles after 20 epochs: mean map 0.18, with AdamW 0.11)."""
    if as_paper or any(isinstance(module, nn.BatchNorm2d) for module in student.modules()):
        sgd = torch.optim.SGD(student.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)
        return sgd, "SGD 0.4, momentum 0.9, weight decay 1e-4"
    return torch.optim.AdamW(
        student.parameters(), lr=3e-3, weight_decay=1e-4
    ), "AdamW 3e-3, weight decay 1e-4"


def _judged(
    network: nn.Module,
    sight: Sight,
    select: Sequence[int],
    trial: Trial | None,
    batch: int,
    seen: Callable[[int], None],
) -> tuple[float, float | None]:
    """The mean map of the select pictures, and how well drawn defects are told from them. `seen` hears how
    many pictures were looked at."""
    network.eval()
    total, good, drawn = 0.0, list[float](), list[float]()
    with torch.inference_mode():
        for chunk in _chunks(select, batch):
            maps = _maps(network, sight, chunk)
            total += float(maps.mean(dim=(1, 2)).sum())
            good += trial.peaks(maps, chunk) if trial else ()
            seen(len(chunk))
        for chunk in _chunks(trial.indices if trial else (), batch):
            drawn += trial.peaks(_maps(network, sight, chunk), chunk) if trial else ()
            seen(len(chunk))
    mean = total / len(select)
    return mean, trial.told_apart(good, drawn) if trial and math.isfinite(mean) else None


def _maps(network: nn.Module, sight: Sight, indices: Sequence[int]) -> Tensor:
    images, seen = sight.of(indices)
    return anomaly_map(seen, network(images))


def _chunks(indices: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), length):
        yield indices[start : start + length]
