"""Seconds an epoch of training takes, beside a plain loop: `python -m tests.benchmarks.training_time`.

The plain loop is eager torch with the teacher recomputed for each batch. Both train ResNet-18 students of the
carried teacher on the same pictures in the same batches, and take turns epoch by epoch, so that what else the
machine does falls on both. Pictures are decoded beforehand for both. On a machine with other work set
GOMP_SPINCOUNT=1000, as `line-monitor` does for itself: else threads that wait for each other drown the rest.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from drivers import simulated
from monitor import images
from monitor.fitting import batch_size, fit
from monitor.progress import SILENT
from monitor.pyramid import anomaly_map, matching_loss
from monitor.teacher import BUNDLED, build_trunk, find
from monitor.training import split
from tests.benchmarks.markdown import markdown


class PlainLoop:
    """The textbook's way."""

    def __init__(
        self,
        teacher: nn.Module,
        pictures: Sequence[images.Image],
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
        return torch.from_numpy(np.stack([images.normalised(self._pictures[index]) for index in indices]))


def measured(
    pictures: Sequence[images.Image], epochs: int, batch: int | None
) -> tuple[list[float], list[float], int]:
    """Seconds of each epoch of ours and of the plain loop, and the batch."""
    parts = split(len(pictures), 0, as_paper=False)
    chosen = batch or batch_size(len(parts.train), as_paper=False)
    teacher = find(BUNDLED, weights=None, folder=Path(), say=lambda line: None).trunk
    plain = PlainLoop(teacher, pictures, parts.train, parts.select)
    ours: list[float] = []
    theirs: list[float] = []
    began = time.perf_counter()

    def take_turns(losses: Sequence[float], select_maps: Sequence[float]) -> None:
        nonlocal began
        ended = time.perf_counter()
        ours.append(ended - began)
        plain.epoch(chosen)
        theirs.append(time.perf_counter() - ended)
        print(f"epoch {len(ours)}: ours {ours[-1]:.2f} s, plain loop {theirs[-1]:.2f} s", flush=True)
        began = time.perf_counter()

    fit(
        teacher,
        "resnet18",
        pictures,
        parts.train,
        parts.select,
        epochs=epochs,
        seed=0,
        device=torch.device("cpu"),
        progress=SILENT,
        batch=chosen,
        watch=take_turns,
    )
    return ours, theirs, chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="a folder of images; without it, simulated plates")
    parser.add_argument("--count", type=int, default=100, help="of them at most (100)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, help="as training chooses it, if not given")
    options = parser.parse_args()
    if options.images:
        found = (images.read(file) for file in images.find(options.images)[: options.count])
    else:
        found = (simulated.render("plate", 1, index, 0.0) for index in range(options.count))
    pictures = [images.squashed(image, images.as_size(options.size)) for image in found]
    ours, theirs, batch = measured(pictures, options.epochs, options.batch)
    rows = [
        [name, f"{np.mean(mine):.2f}", f"{np.mean(other):.2f}", f"{np.mean(mine) / np.mean(other):.2f}"]
        for name, mine, other in (
            ("the first", ours[:1], theirs[:1]),
            ("the second and later", ours[1:], theirs[1:]),
            (f"all {len(ours)}", ours, theirs),
        )
        if mine
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{len(pictures)} images at {options.size} px, batch {batch}, {torch.get_num_threads()} threads; "
        f"peak memory of both loops in one process {peak:.0f} MB\n"
    )
    print(markdown([["mean seconds of epochs", "ours", "plain loop", "ratio"], *rows]))


if __name__ == "__main__":
    main()
