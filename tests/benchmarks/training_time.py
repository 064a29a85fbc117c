"""Compares the time of a training epoch with a plain loop: `python -m tests.benchmarks.training_time`.

The plain loop is eager torch, with the teacher computed again for each batch. Both train ResNet-18 students
of the carried teacher on the same images in the same batches. Their epochs alternate, so that other programs
slow both down alike. The images are decoded before for both. The memory of each is measured afterwards, in
its own process, over two epochs. On a busy machine set GOMP_SPINCOUNT=1000, as `line-monitor` does: otherwise
threads that spin while they wait slow down all others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from drivers import image_file, simulated
from monitor.images import preprocessing
from monitor.model.channel_scaling import channel_deviations
from monitor.pyramid import anomaly_map, matching_loss
from monitor.system.progress import SILENT
from monitor.teachers.architectures import BUNDLED, build_trunk, find_teacher
from monitor.training.examples import split_images
from monitor.training.loop import FitSettings, batch_size, fit
from tests.benchmarks.markdown import markdown
from tests.benchmarks.memory_peak import peak_of


class PlainLoop:
    """The plain loop."""

    def __init__(
        self,
        teacher: nn.Module,
        pictures: Sequence[image_file.Image],
        train: Sequence[int],
        select: Sequence[int],
    ) -> None:
        self._teacher = teacher
        self._pictures = pictures
        self._train = train
        self._select = select
        self._student = build_trunk("resnet18")
        self._optimiser = torch.optim.SGD(self._student.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)
        self._rng = np.random.default_rng(0)

    def epoch(self, batch: int) -> None:
        self._student.train()
        order = self._rng.permutation(self._train).tolist()
        for start in range(0, len(order), batch):
            prepared = self._prepared(order[start : start + batch])
            with torch.no_grad():
                seen = self._teacher(prepared)
            loss = matching_loss(seen, self._student(prepared))
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
        self._student.eval()
        with torch.no_grad():
            for start in range(0, len(self._select), batch):
                prepared = self._prepared(self._select[start : start + batch])
                anomaly_map(self._teacher(prepared), self._student(prepared)).mean().item()

    def _prepared(self, indices: Sequence[int]) -> torch.Tensor:
        return torch.from_numpy(
            np.stack([preprocessing.normalise_image(self._pictures[index]) for index in indices])
        )


@dataclass(frozen=True)
class Pictures:
    """The images to learn from. A separate process reads them itself."""

    folder: Path | None
    """It is None for simulated plates."""
    count: int
    size: int

    def read(self) -> list[image_file.Image]:
        if self.folder:
            found = (image_file.read(file) for file in image_file.find(self.folder)[: self.count])
        else:
            found = (simulated.render("plate", 1, index, 0.0) for index in range(self.count))
        return [preprocessing.resize_image(image, preprocessing.as_size(self.size)) for image in found]


def our_loop(
    teacher: nn.Module,
    pictures: Sequence[image_file.Image],
    epochs: int,
    batch: int,
    watch: Callable[[Sequence[float], Sequence[float]], None],
) -> None:
    """The default training: scaled teacher channels, and drawn defects that select the student."""
    parts, device = split_images(len(pictures), 0, as_paper=False), torch.device("cpu")
    fit(
        teacher,
        pictures,
        parts.train,
        parts.select,
        FitSettings(
            architecture="resnet18",
            epochs=epochs,
            seed=0,
            device=device,
            batch=batch,
            deviations=channel_deviations(teacher, pictures, parts.train, device),
        ),
        progress=SILENT,
        on_epoch_end=watch,
    )


def plain_loop(teacher: nn.Module, pictures: Sequence[image_file.Image]) -> PlainLoop:
    parts = split_images(len(pictures), 0, as_paper=False)
    return PlainLoop(teacher, pictures, parts.train, parts.select)


def carried_teacher() -> nn.Module:
    return find_teacher(BUNDLED, weights=None, folder=Path(), say=lambda line: None).trunk


def alone(ours: bool, which: Pictures, batch: int) -> None:
    """Two epochs of one loop, for its memory: after the first epoch the memory is complete."""
    pictures, teacher = which.read(), carried_teacher()
    if ours:
        our_loop(teacher, pictures, 2, batch, lambda losses, select_maps: None)
        return
    plain = plain_loop(teacher, pictures)
    for _ in range(2):
        plain.epoch(batch)


def measured(
    pictures: Sequence[image_file.Image], epochs: int, batch: int
) -> tuple[list[float], list[float]]:
    """Seconds of each epoch of this program and of the plain loop."""
    teacher = carried_teacher()
    plain = plain_loop(teacher, pictures)
    ours: list[float] = []
    theirs: list[float] = []
    began = time.perf_counter()

    def take_turns(losses: Sequence[float], select_maps: Sequence[float]) -> None:
        nonlocal began
        ended = time.perf_counter()
        ours.append(ended - began)
        plain.epoch(batch)
        theirs.append(time.perf_counter() - ended)
        print(f"epoch {len(ours)}: ours {ours[-1]:.2f} s, plain loop {theirs[-1]:.2f} s", flush=True)
        began = time.perf_counter()

    our_loop(teacher, pictures, epochs, batch, take_turns)
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="a folder of images; without it, simulated plates")
    parser.add_argument("--count", type=int, default=100, help="of them at most (100)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, help="as training chooses it, if not given")
    options = parser.parse_args()
    which = Pictures(options.images, options.count, options.size)
    pictures = which.read()
    parts = split_images(len(pictures), 0, as_paper=False)
    batch = options.batch or batch_size(len(parts.train), as_paper=False)
    ours, theirs = measured(pictures, options.epochs, batch)
    rows = [
        [name, f"{np.mean(mine):.2f}", f"{np.mean(other):.2f}", f"{np.mean(mine) / np.mean(other):.2f}"]
        for name, mine, other in (
            ("the first", ours[:1], theirs[:1]),
            ("the second and later", ours[1:], theirs[1:]),
            (f"all {len(ours)}", ours, theirs),
        )
        if mine
    ]
    our_peak, their_peak = (peak_of(alone, is_ours, which, batch) for is_ours in (True, False))
    print(
        f"\n{len(pictures)} images at {options.size} px, batch {batch}, {torch.get_num_threads()} threads; "
        f"peak memory, each in a process of its own: ours {our_peak:.0f} MB, plain loop {their_peak:.0f} MB\n"
    )
    print(markdown([["mean seconds of epochs", "ours", "plain loop", "ratio"], *rows]))


if __name__ == "__main__":
    main()
