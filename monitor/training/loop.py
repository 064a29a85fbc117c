"""The student's training loop (the paper's section 3.2): from pictures and a teacher to the best student.

It knows nothing of files, recipes or thresholds.

A student whose loss is not finite must never be returned. The loop leaves torch's global random state
unchanged. An interrupted run that resumes ends with the same student, to the bit, as an uninterrupted one.
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
from monitor.images.preprocessing import IndexedImages
from monitor.model.weights import Weights
from monitor.pyramid import Features, ScaledTrunk, anomaly_map, matching_loss
from monitor.system.memory import usable_memory
from monitor.system.progress import Progress
from monitor.teachers.architectures import build_trunk, trunk_weights
from monitor.training.checkpoint import Checkpoint, Position
from monitor.training.learning_rate import share_of_rate
from monitor.training.student_precision import StudentPrecision
from monitor.training.student_selection import SelectionSet
from monitor.training.teacher_features import TeacherFeatures

BATCH = 32
"""The paper's batch."""
_LEAST_STEPS = 24
"""Batches are made smaller than 32 if an epoch would otherwise have fewer optimiser steps than this."""
_SMALLEST_BATCH = 4
_PIXELS_AT_ONCE = BATCH * 512**2
"""The largest number of pixels that go through teacher and student together, unless one picture has more."""
_FEATURE_BYTES = 2 << 30
"""Bytes. The teacher's features are kept in memory up to this and up to an eighth of the machine's memory."""


class TrainingError(LineMonitorError):
    """The training ends without a recipe. The message is one line with the fix."""


class DivergedError(TrainingError):
    """The loss or a mean anomaly map is not finite any more. The same settings would lead there again."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What decides the student, beside the teacher and the pictures."""

    architecture: str
    """The architecture of the teacher and the student."""
    epochs: int
    seed: int
    device: torch.device
    batch: int
    as_paper: bool = False
    """The paper's optimiser with a constant rate for every architecture, and the paper's rule by which a
    student is selected."""
    deviations: Features | None = None
    """Teacher and student are divided by these, channel by channel (`monitor.model.channel_scaling`)."""
    precision: StudentPrecision = StudentPrecision.F32
    """The precision of the student's convolutions while it learns."""


@dataclass(frozen=True)
class TrainedStudent:
    """The student that was selected, and the course of its training."""

    student: Weights
    best_epoch: int
    """The epoch of the selected student, from 1."""
    losses: tuple[float, ...]
    """The mean training loss of each epoch."""
    select_maps: tuple[float, ...]
    """The mean anomaly map of the select pictures after each epoch."""
    told_apart: tuple[float, ...]
    """The separation of drawn defects from the select pictures after each epoch, 0 to 1
    (`monitor.training.student_selection`). It is empty in the paper's mode."""
    optimiser: str


EpochCallback = Callable[[Sequence[float], Sequence[float]], None]
"""Called after each epoch with the losses and the select maps so far, as in `TrainedStudent`."""


def batch_size(count: int, *, as_paper: bool) -> int:
    """The batch for `count` training pictures.

    It is 32 in the paper, whose data sets have about 200 images. Outside the paper's mode it is smaller, but
    at least 4, where batches of 32 would make fewer than 24 steps an epoch: a short training learns more from
    many small steps (`tests/benchmarks/README.md`).
    """
    return BATCH if as_paper else min(BATCH, max(_SMALLEST_BATCH, count // _LEAST_STEPS))


def steps_an_epoch(count: int, batch: int) -> int:
    """The steps of the optimiser in an epoch of `count` training pictures."""
    return math.ceil(count / batch)


def pictures_at_once(picture: Image) -> int:
    """The largest number of pictures of this size that go through teacher and student together.

    One picture of 2048x2048 pixels takes 3 GB.
    """
    return max(1, _PIXELS_AT_ONCE // int(np.prod(picture.shape[:2])))


def fit(
    teacher: nn.Module,
    pictures: IndexedImages,
    train: Sequence[int],
    select: Sequence[int],
    settings: FitSettings,
    *,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
    on_epoch_end: EpochCallback | None = None,
) -> TrainedStudent:
    """Trains a randomly initialised student of the teacher's architecture on the pictures `train`.

    The selected student is the one that best separates drawn defects from the pictures `select`; of equals
    it is the one with the lowest mean anomaly map on `select`. In the paper's mode that map alone selects.
    With a checkpoint an interrupted run continues where it was saved last. The returned weights are the
    trunk's alone, without the deviations. Raises DivergedError if the loss or the mean anomaly map on
    `select` is not finite any more.
    """
    run = _StudentRun(settings, steps_an_epoch(len(train), settings.batch))
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        run.resume(*saved)
    network = teacher if settings.deviations is None else ScaledTrunk(teacher, settings.deviations)
    selection = None if settings.as_paper else SelectionSet(pictures, train, select, settings.seed)
    judged = [*select, *(selection.indices if selection else ())]
    features = TeacherFeatures(
        network,
        selection or pictures,
        [*train, *judged],
        settings.device,
        memory_bytes=min(_FEATURE_BYTES, usable_memory() // 8),
    )
    at_once = pictures_at_once(pictures[train[0]])
    note = ""
    while run.epoch <= settings.epochs:
        batches = list(_chunks(run.start_epoch(train), settings.batch))
        within = _EpochProgress(progress, run.epoch, settings.epochs, len(train) + len(judged), note)
        within.add(min(run.steps * settings.batch, len(train)))
        for batch in batches[run.steps :]:
            run.step(_load_micro_batches(features, batch, at_once, within.add), len(batch))
            if checkpoint is not None and checkpoint.due(epoch_ended=False):
                checkpoint.save(run.position(), run.arrays())
        figures = _figures_after_epoch(
            run.network, features, select, selection, min(settings.batch, at_once), within.add
        )
        run.end_epoch(len(train), *figures)
        note = f"loss {run.losses[-1]:.4f} map {min(run.select_maps):.3g}"
        progress.update("train", len(run.losses), settings.epochs, note)
        if on_epoch_end is not None:
            on_epoch_end(run.losses, run.select_maps)
        if checkpoint is not None and run.epoch <= settings.epochs and checkpoint.due(epoch_ended=True):
            checkpoint.save(run.position(), run.arrays())
    return run.result()


class _EpochProgress:
    """Reports the progress within an epoch, which takes minutes with ten thousand pictures.

    The progress is the share of the epoch's pictures that were processed. It is not quite the share of the
    time, because a training picture takes longer than a select picture; most pictures are training pictures.
    """

    def __init__(self, progress: Progress, epoch: int, epochs: int, pictures: int, note: str) -> None:
        self._progress, self._epoch, self._epochs, self._note = progress, epoch, epochs, note
        self._pictures = pictures
        self._done = 0

    def add(self, count: int) -> None:
        """Counts `count` more pictures as processed and reports the share.

        Nothing is reported once all are processed, because `fit` then reports the epoch with its figures.
        """
        self._done += count
        if self._done < self._pictures:
            done = self._epoch - 1 + self._done / self._pictures
            self._progress.update("train", done, self._epochs, self._note)


class _StudentRun:
    """A student in training: everything that its next step depends on, and the best student so far."""

    def __init__(self, settings: FitSettings, steps_an_epoch: int) -> None:
        device, deviations = settings.device, settings.deviations
        self._bfloat16 = settings.precision is StudentPrecision.BF16
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(settings.seed)
            self.student = build_trunk(settings.architecture).to(device).to(memory_format=torch.channels_last)
        self.network = (
            self.student if deviations is None else ScaledTrunk(self.student, deviations).to(device)
        )
        self._optimiser, description = _optimiser(self.student, as_paper=settings.as_paper)
        self._description = f"{description}, batch {settings.batch}"
        self._rate: float = self._optimiser.param_groups[0]["lr"]
        self._constant_rate = settings.as_paper
        self._steps_an_epoch = steps_an_epoch
        self._all_steps = settings.epochs * steps_an_epoch
        self._rng = np.random.default_rng(settings.seed)
        self._random_state = json.dumps(self._rng.bit_generator.state)
        """The generator's state from which the order of the current epoch is drawn."""
        self.epoch = 1
        """The epoch in progress, from 1."""
        self.steps = 0
        """The finished steps of that epoch."""
        self._total = 0.0
        """The loss of that epoch so far, summed over its pictures."""
        self.losses: list[float] = []
        self.select_maps: list[float] = []
        self._told_apart: list[float] = []
        self._best: Weights = {}

    def start_epoch(self, indices: Sequence[int]) -> list[int]:
        """Starts or resumes the current epoch: returns the training pictures `indices` in its random order.

        The network is switched to training. The random state before the draw is kept, so that a resumed run
        draws the same order.
        """
        self._random_state = json.dumps(self._rng.bit_generator.state)
        self.network.train()
        order: list[int] = self._rng.permutation(indices).tolist()
        return order

    def step(self, micro_batches: Iterable[tuple[Tensor, Sequence[Tensor]]], count: int) -> None:
        """Makes one step of the optimiser on a batch of `count` pictures.

        The batch comes in micro-batches that fit into memory, usually one. Each has the normalised pictures
        (N, 3, H, W) and the teacher's features of them.
        """
        self._set_rate()
        self._optimiser.zero_grad(set_to_none=True)
        for images, levels in micro_batches:
            loss = matching_loss(levels, self._student_levels(images))
            # With these weights the micro-batches' gradients add up to the gradient of the batch's mean loss.
            (loss * (len(images) / count)).backward()  # type: ignore[no-untyped-call]
            self._total += self._require_finite(loss.item()) * len(images)
        self._optimiser.step()
        self.steps += 1

    def _set_rate(self) -> None:
        """Sets the learning rate of the next step. It depends only on the number of finished steps."""
        finished = (self.epoch - 1) * self._steps_an_epoch + self.steps
        share = 1.0 if self._constant_rate else share_of_rate(finished, self._all_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = share * self._rate

    def _student_levels(self, images: Tensor) -> Sequence[Tensor]:
        if not self._bfloat16:
            return list(self.network(images))
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            levels = self.network(images)
        return [level.float() for level in levels]

    @property
    def _best_epoch(self) -> int:
        """The best of the epochs that have ended (at least one), from 1; of equals the first.

        It is the one with the best separation of drawn defects; of equals, and in the paper's mode, the one
        with the smallest mean map.
        """
        ranks = list(
            zip(self._told_apart or [0.0] * len(self.losses), (-m for m in self.select_maps), strict=True)
        )
        return ranks.index(max(ranks)) + 1

    def end_epoch(self, count: int, select_map: float, told_apart: float | None) -> None:
        """Records the figures of an epoch of `count` pictures. Keeps the student if it is the best so far."""
        self.losses.append(self._total / count)
        self.select_maps.append(self._require_finite(select_map))
        if told_apart is not None:
            self._told_apart.append(told_apart)
        if self._best_epoch == len(self.losses):
            self._best = {name: array.copy() for name, array in trunk_weights(self.student).items()}
        self.epoch, self.steps, self._total = self.epoch + 1, 0, 0.0
        self._random_state = json.dumps(self._rng.bit_generator.state)

    def _require_finite(self, value: float) -> float:
        if not math.isfinite(value):
            raise DivergedError(
                f"the loss diverged in epoch {self.epoch} (it or the anomaly map is not a finite number any "
                "more): try another --seed or --teacher; nothing was saved"
            )
        return value

    def result(self) -> TrainedStudent:
        return TrainedStudent(
            self._best,
            self._best_epoch,
            tuple(self.losses),
            tuple(self.select_maps),
            tuple(self._told_apart),
            self._description,
        )

    def position(self) -> Position:
        return Position(
            epoch=self.epoch,
            steps=self.steps,
            total=self._total,
            losses=tuple(self.losses),
            select_maps=tuple(self.select_maps),
            told_apart=tuple(self._told_apart),
            random_state=self._random_state,
        )

    def arrays(self) -> Weights:
        """The arrays of the student, the optimiser and the best student, for `resume`."""
        arrays = {f"student/{name}": _array(tensor) for name, tensor in self.student.state_dict().items()}
        for number, values in self._optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser/{number}/{key}": _array(tensor) for key, tensor in values.items()}
        return arrays | {f"best/{name}": array for name, array in self._best.items()}

    def resume(self, position: Position, arrays: Weights) -> None:
        """Continues from `position` and `arrays` of a run with the same architecture and optimiser."""
        groups: dict[str, Weights] = {
            group: {
                name.removeprefix(f"{group}/"): array
                for name, array in arrays.items()
                if name.startswith(group)
            }
            for group in ("student", "optimiser", "best")
        }
        with torch.no_grad():
            for name, tensor in self.student.state_dict().items():
                tensor.copy_(torch.from_numpy(groups["student"][name].reshape(tensor.shape)))
        state: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.student.parameters())
        for name, array in groups["optimiser"].items():
            number, key = name.split("/")
            like = parameters[int(number)]
            # The value gets the parameter's memory layout: sums over another layout may run in another order
            # and differ in their last bits.
            value = torch.empty(()) if key == "step" else torch.empty_like(like)
            value.copy_(torch.from_numpy(array.reshape(value.shape)))
            state.setdefault(int(number), {})[key] = value
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state})
        self._best = groups["best"]
        self.epoch, self.steps, self._total = position.epoch, position.steps, position.total
        self.losses, self.select_maps = list(position.losses), list(position.select_maps)
        self._told_apart = list(position.told_apart)
        self._random_state = position.random_state
        self._rng.bit_generator.state = json.loads(position.random_state)


def _load_micro_batches(
    features: TeacherFeatures, batch: Sequence[int], at_once: int, add_progress: Callable[[int], None]
) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
    """The micro-batches of a batch for `_StudentRun.step`.

    The progress is reported after each of them, because a step on large pictures may take minutes.
    """
    for micro_batch in _chunks(batch, at_once):
        yield features.of(micro_batch)
        add_progress(len(micro_batch))


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()


def _optimiser(student: nn.Module, *, as_paper: bool) -> tuple[torch.optim.Optimizer, str]:
    """The optimiser and its description.

    It is the paper's SGD in the paper's mode and for every student with batch normalisation. A student
    without it learns slowly with this SGD and gets AdamW: SqueezeNet on 70 images of the magnetic-tile data
    set had a mean map of 0.18 after 20 epochs with SGD and 0.11 with AdamW. The falling rate allows a high
    one at first (`tests/benchmarks/README.md`).
    """
    if as_paper or any(isinstance(module, nn.BatchNorm2d) for module in student.modules()):
        sgd = torch.optim.SGD(student.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)
        return sgd, "SGD 0.4, momentum 0.9, weight decay 1e-4"
    return torch.optim.AdamW(
        student.parameters(), lr=8e-3, weight_decay=1e-4
    ), "AdamW 8e-3, weight decay 1e-4"


def _figures_after_epoch(
    network: nn.Module,
    features: TeacherFeatures,
    select: Sequence[int],
    selection: SelectionSet | None,
    batch: int,
    add_progress: Callable[[int], None],
) -> tuple[float, float | None]:
    """The mean map of the select pictures, and the separation of drawn defects from them.

    The separation is None in the paper's mode and where the mean map is not finite.
    """
    network.eval()
    total, good, drawn = 0.0, list[float](), list[float]()
    with torch.inference_mode():
        for chunk in _chunks(select, batch):
            maps = _anomaly_maps(network, features, chunk)
            total += float(maps.mean(dim=(1, 2)).sum())
            good += selection.peaks(maps, chunk) if selection else ()
            add_progress(len(chunk))
        for chunk in _chunks(selection.indices if selection else (), batch):
            drawn += selection.peaks(_anomaly_maps(network, features, chunk), chunk) if selection else ()
            add_progress(len(chunk))
    mean = total / len(select)
    return mean, selection.separation(good, drawn) if selection and math.isfinite(mean) else None


def _anomaly_maps(network: nn.Module, features: TeacherFeatures, indices: Sequence[int]) -> Tensor:
    images, levels = features.of(indices)
    return anomaly_map(levels, network(images))


def _chunks(indices: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), length):
        yield indices[start : start + length]
