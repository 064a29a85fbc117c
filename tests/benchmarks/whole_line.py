"""Measures what a whole line adds to scoring: time from capture to sent, and sustained rate.

    .venv/bin/python -m tests.benchmarks.whole_line [--seconds N]

It uses the real service, a real Mosquitto, a folder of 640x480 images as the camera, and a ResNet-18 at 256
pixels, trained for one epoch, because its accuracy does not change the time. It first runs a third of the
scorer's own rate. Then it runs rates near the scorer's own rate; the result is the highest rate at which
every part is judged within 250 ms. Last it runs a rate above the scorer's. Machines change their speed while
this runs, so the scorer alone is measured before and after each of these rates, and a rate is compared with
the mean of both. The camera is not part of the line, so the processor time of its capture worker is
subtracted. The exit code is 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers import image_file
from monitor.line_state.ring import Ring
from monitor.model.recipe_version import RecipeVersion
from monitor.recipe import Recipe
from monitor.teachers.architectures import BUNDLED
from monitor.training.train_recipe import TrainingRequest, train_recipe
from tests.benchmarks.growth import processor_seconds
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto

_CAMERA, _WARM_S = "top", 3
_CALM = 1 / 3
"""The frame rate at which times are measured, as a share of the scorer's own rate."""
_P50, _P99, _RATE = 1.1, 1.5, 0.9
_PARTS = (0.8, 0.84, 0.86, 0.88, 0.9, 0.94, 1.15)
"""Frame rates of the line as shares of the scorer's own rate; the last is more than it can do."""
_IN_LANES = 10
"""Frames that the scorer alone gets together, so that its lanes are rarely empty."""
_ALL = 0.999
"""Smallest share of judged parts: at the start and end of a measurement a part may be counted on one side
only."""


@dataclass(frozen=True)
class Stages:
    """Latencies of the judged frames in ms."""

    scoring_p50: float
    sent_p50: float
    """From capture to sent."""
    sent_p99: float


@contextmanager
def line_of(folder: Path, fps: float, deadline_ms: int) -> Iterator[Line]:
    with Mosquitto() as broker:
        config = folder / "line.toml"
        config.write_text(
            f'[line]\ndata = "data"\n[[camera]]\nname = "{_CAMERA}"\n'
            f'source = "folder://{folder}/parts?fps={fps:.2f}&loop=1"\nrecipe = "plate"\n'
            f"deadline_ms = {deadline_ms}\n[mqtt]\nport = {broker.port}\n"
            "[metrics]\nport = 0\n[review]\nport = 0\n[snapshots]\nmin_free_gb = 0\n",
            encoding="utf-8",
        )
        with Line(config, broker.port) as line:
            line.await_ready()
            time.sleep(_WARM_S)
            yield line


def stages(ring: Ring, first: int, last: int) -> Stages:
    scoring, sent = [], []
    for number in range(first, last + 1):
        frame, scored, sent_ns = ring.frame(number), ring.scorer_verdict(number), ring.sent_ns(number)
        if frame is not None and scored is not None and sent_ns:
            scoring.append(scored.scored_ns - scored.started_ns)
            sent.append(sent_ns - frame.captured_ns)
    p50, p99 = np.percentile(sent, (50, 99)) / 1e6
    return Stages(float(np.median(scoring)) / 1e6, float(p50), float(p99))


class ScorerAlone:
    """The line's scorer in this process, which does nothing else meanwhile."""

    def __init__(self, recipe: RecipeVersion, folder: Path, seconds: float) -> None:
        self._scorer = Recipe(recipe).scorer()
        self._scorer.warm_up()
        self._pictures = [image_file.read(file) for file in image_file.find(folder)]
        self._seconds = seconds

    def calm(self, fps: float) -> NDArray[np.float64]:
        """Times in ms of single frames at that rate."""
        took: list[float] = []
        until = time.perf_counter() + self._seconds
        while (began := time.perf_counter()) < until:
            self._scorer.score([self._pictures[len(took) % len(self._pictures)]])
            took.append((time.perf_counter() - began) * 1e3)
            time.sleep(max(0.0, began + 1 / fps - time.perf_counter()))
        return np.array(took)

    def rate(self) -> float:
        """Frames a second: the better of one frame after the other, and in as many lanes as it has."""
        spent = [0.0, 0.0]
        rounds, until = 0, time.perf_counter() + self._seconds
        while time.perf_counter() < until:
            rounds += 1
            for way, at_once in enumerate((1, _IN_LANES)):
                began = time.perf_counter()
                for first in range(0, _IN_LANES, at_once):
                    self._scorer.score(self._pictures[first : first + at_once])
                spent[way] += time.perf_counter() - began
        return rounds * _IN_LANES / min(spent)


@dataclass(frozen=True)
class Load:
    """The result of a line at one frame rate."""

    judged_per_s: float
    """Judged frames in each second of processor time that the capture worker left to the line."""
    share: float
    """Share of the parts that were judged."""


def under_load(folder: Path, fps: float, seconds: float) -> Load:
    with line_of(folder, fps, deadline_ms=250) as line:
        ring, capture = line.ring(_CAMERA), line.pid(f"capture-{_CAMERA}")
        before, spent, began = ring.tally(), processor_seconds(capture), time.monotonic()
        time.sleep(seconds)
        after, took = ring.tally(), time.monotonic() - began
        spent = processor_seconds(capture) - spent
    judged = after.passed + after.rejected - before.passed - before.rejected
    return Load(judged / (took - spent / (os.cpu_count() or 1)), judged / (after.cursor - before.cursor))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, metavar="N", help="of each measurement (30)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts_folder.write_parts(folder / "parts", 20, bad_every=0)
        recipe = train_recipe(
            TrainingRequest(
                name="plate",
                recipes=folder / "data/recipes",
                images=folder / "parts",
                teacher=BUNDLED,
                teacher_weights=None,
                teachers=folder,
                epochs=1,
            ),
            say=lambda line: None,
        )
        alone = ScorerAlone(recipe, folder / "parts", options.seconds / 4)
        rates = [alone.rate()]
        fps = _CALM * rates[0]
        calm = [alone.calm(fps)]
        with line_of(folder, fps, deadline_ms=1000) as line:
            ring = line.ring(_CAMERA)
            first = ring.last_frame() + 1
            time.sleep(options.seconds)
            found = stages(ring, first, ring.last_frame() - round(fps))
        calm.append(alone.calm(fps))
        loads = []
        rates.append(alone.rate())
        for part in _PARTS:
            loads.append(under_load(folder, part * rates[-1], options.seconds))
            rates.append(alone.rate())
    print(f"{fps:.1f} frames a second: scoring stage p50 {found.scoring_p50:.1f} ms")
    p50, p99 = np.percentile(np.concatenate(calm), (50, 99))
    print(f"the scorer alone at that rate: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {p99 / p50:.2f} of it")
    limits = [
        ("capture to sent p50", found.sent_p50, found.sent_p50 / found.scoring_p50, _P50),
        ("capture to sent p99", found.sent_p99, found.sent_p99 / found.scoring_p50, _P99),
    ]
    missed = False
    for what, ms, ratio, limit in limits:
        missed |= ratio > limit
        print(f"{what}: {ms:.1f} ms, {ratio:.2f} of it, at most {limit}: {'yes' if ratio <= limit else 'NO'}")
    print(f"the scorer alone, in turns with the line: {', '.join(f'{rate:.1f}' for rate in rates)} a second")
    share = 0.0
    for load, before, after in zip(loads, rates[1:-1], rates[2:], strict=True):
        of_it = load.judged_per_s / ((before + after) / 2)
        print(f"{load.judged_per_s:.1f} judged a second, {of_it:.2f} of the scorer: {load.share:.1%} of all")
        if load.share >= _ALL:
            share = max(share, of_it)
    missed |= share < _RATE
    print(f"sustained: {share:.2f} of the scorer's, at least {_RATE}: {'yes' if share >= _RATE else 'NO'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
