"""Measures the time of scoring for more work: larger inputs, more tiles, larger frames, more cameras.

    .venv/bin/python -m tests.benchmarks.growth [--plot FILE.svg]

All amounts of one kind of work are measured in turns, so that other programs slow them down alike. A straight
line is fitted to the medians of each kind. The networks are untrained, because the time does not depend on
the weights. For cameras, one real service runs, and the value is the processor time per frame of all its
processes except the sources. The exit code is 1 if the time does not grow like the work: if a measurement is
more than a quarter off the line.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.images.preprocessing import as_size, prepare
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import make_tiles
from tests.benchmarks.growth_plot import Series, plot
from tests.benchmarks.markdown import markdown
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.parts import draft_recipe

_SIDES = (256, 384, 512, 768, 1024, 1536, 2048)
_TILES = (1, 4, 9, 16, 36, 64)
_FRAMES = ((480, 640), (1024, 1280), (1080, 1920), (2048, 2448), (3000, 4096), (3648, 5472))
_CAMERAS = (1, 2, 4, 8)
_CAMERA_FPS = 2
_OFF = 0.25


@dataclass(frozen=True)
class Kind:
    """One kind of growing work."""

    title: str
    unit: str
    """Unit of the work."""
    cost: str
    points: Mapping[float, float]
    """The median time by the amount of work."""

    def line(self) -> tuple[float, float]:
        """Offset and slope of the line. The fit minimises the relative differences."""
        work, cost = (np.array(list(values), float) for values in (self.points.keys(), self.points.values()))
        design = np.stack([np.ones_like(work), work], axis=1) / cost[:, None]
        start, slope = np.linalg.lstsq(design, np.ones_like(work), rcond=None)[0]
        return float(start), float(slope)

    def off(self) -> float:
        """The largest relative difference between a measurement and the line."""
        start, slope = self.line()
        return max(abs((start + slope * work) / cost - 1) for work, cost in self.points.items())


def in_turns(jobs: Mapping[float, Callable[[], object]], rounds: int) -> dict[float, float]:
    """Median times of `rounds` in milliseconds, after one round to warm up."""
    times: dict[float, list[float]] = {work: [] for work in jobs}
    for turn in range(rounds + 1):
        for work, job in jobs.items():
            began = time.perf_counter()
            job()
            if turn:
                times[work].append(1000 * (time.perf_counter() - began))
    return {work: float(np.median(own)) for work, own in times.items()}


def scorers(folder: Path, runtime: str) -> dict[float, Scorer]:
    found = {}
    for side in _SIDES:
        recipe = draft_recipe(folder / f"side-{side}", "resnet18", side)
        found[side * side / 1e6] = Scorer(recipe, device="cpu", runtime=runtime)
    return found


def tiled(folder: Path, runtime: str) -> dict[float, Scorer]:
    found = {}
    for count in _TILES:
        side = 256 + (round(count**0.5) - 1) * 224
        recipe = draft_recipe(folder / f"tiles-{count}", "resnet18", side, tiles=make_tiles((256, 256), 32))
        assert len(recipe.grid) == count
        found[float(count)] = Scorer(recipe, device="cpu", runtime=runtime)
    return found


def frame(shape: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def scoring(scorers_by_work: Mapping[float, Scorer], rounds: int) -> dict[float, float]:
    """Each scorer gets a frame of its own input size, so nothing is resized."""
    jobs = {
        work: partial(scorer.score, [frame(scorer.recipe.size)]) for work, scorer in scorers_by_work.items()
    }
    return in_turns(jobs, rounds)


def cameras(folder: Path, seconds: float) -> dict[float, float]:
    """Processor time of the line in ms a second by the number of cameras, without the sources."""
    recipe = parts_folder.train(folder / "data/recipes", folder / "good")
    parts_folder.write_parts(folder / "parts", 20, bad_every=0)
    found = {}
    for count in _CAMERAS:
        with Mosquitto() as broker:
            entries = "".join(
                f'[[camera]]\nname = "c{number}"\nsource = "folder://{folder}/parts?fps={_CAMERA_FPS}&loop=1"\n'
                f'recipe = "{recipe.name}"\ndeadline_ms = 2000\n'
                for number in range(count)
            )
            config = folder / "line.toml"
            config.write_text(
                f'[line]\ndata = "data"\n{entries}[mqtt]\nport = {broker.port}\n'
                "[metrics]\nport = 0\n[review]\nport = 0\n[snapshots]\nmin_free_gb = 0\n",
                encoding="utf-8",
            )
            with Line(config, broker.port) as line:
                line.await_ready()
                workers = [
                    line.process.pid,
                    *(line.pid(name) for name in ("scoring", "publish", "snapshots")),
                ]
                time.sleep(2)
                before, began = sum(map(processor_seconds, workers)), time.monotonic()
                time.sleep(seconds)
                spent = sum(map(processor_seconds, workers)) - before
                found[float(count)] = 1000 * spent / (time.monotonic() - began)
    return found


def processor_seconds(pid: int) -> float:
    """Processor time of all threads of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(rounds: int, seconds: float, runtime: str) -> list[Kind]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = scoring(scorers(folder, runtime), rounds)
        tiles = scoring(tiled(folder, runtime), rounds)
        jobs = {
            rows * columns / 1e6: partial(prepare, frame((rows, columns)), as_size(256))
            for rows, columns in _FRAMES
        }
        frames = in_turns(jobs, 5 * rounds)
        by_cameras = cameras(folder, seconds)
    return [
        Kind("network's input, 256x256 to 2048x2048", "megapixels", "ms a frame", sides),
        Kind("tiles of 256x256", "tiles", "ms a frame", tiles),
        Kind("frame, shrunk to 256x256", "megapixels", "ms to prepare", frames),
        Kind(f"cameras of {_CAMERA_FPS} frames a second", "cameras", "ms of processor a second", by_cameras),
    ]


def table(kinds: Sequence[Kind]) -> str:
    rows = [["", "work", "cost", "a straight line says", "off"]]
    for kind in kinds:
        start, slope = kind.line()
        for work, cost in kind.points.items():
            straight = start + slope * work
            rows.append(
                [
                    kind.title,
                    f"{work:.3g} {kind.unit}",
                    f"{cost:.2f} {kind.cost}",
                    f"{straight:.2f}",
                    f"{straight / cost - 1:+.0%}",
                ]
            )
    return markdown(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runtime", default="auto", help="torch or openvino (auto)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each measurement (5)")
    parser.add_argument(
        "--seconds", type=float, default=20, metavar="N", help="for each number of cameras (20)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG picture of it")
    options = parser.parse_args()
    kinds = measure(options.rounds, options.seconds, options.runtime)
    print(table(kinds))
    if options.plot:
        options.plot.write_text(plot([Series(k.title, k.unit, k.cost, k.points, k.line()) for k in kinds]))
    bent = [kind for kind in kinds if kind.off() > _OFF]
    for kind in bent:
        print(f"NOT STRAIGHT: {kind.title}: {kind.off():.0%} off")
    return int(bool(bent))


if __name__ == "__main__":
    sys.exit(main())
