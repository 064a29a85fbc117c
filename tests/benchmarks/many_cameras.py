"""Measures what everything but the network costs with many cameras on one PC.

    .venv/bin/python -m tests.benchmarks.many_cameras [--kind mono|colour] [--seconds N] [--plot FILE.svg]

It uses the real service, a real Mosquitto, and folders of 5-megapixel images (2448x2048) as 8 cameras of 10
frames a second. The network is replaced by a wait of 2 ms (`tests.benchmarks.waiting_line`), which rejects
one part in 50. The cost is processor time, by worker process, from /proc. Two workers are divided further:

- Capture workers: what the driver takes alone, measured in this process, is the driver's part. The rest is
  transport: the ring, its record and the message.
- The scoring worker: what resizing and normalising take alone is the preparation's part. The rest is the
  schedule, the ring, the network's call and the frame that is handed to the snapshot writer.

Where the machine is too slow for 80 frames a second, the folders deliver fewer; the time of a frame is still
that of a frame. The last column is that time at 80 frames a second. On a busy machine the workers may not
even start in time, and what a second costs without any frame weighs too much. `--alone` measures there what
needs no running line.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import drivers
from drivers import image_file, simulated
from drivers.image_file import Image
from monitor.images.overlay import Caption, draw_overlay
from monitor.images.preprocessing import prepare
from monitor.settings import SnapshotSettings
from monitor.snapshots.folder import SnapshotFolder
from monitor.verdict import snapshot_path
from tests.benchmarks.cost_bars import Bar, draw_bars
from tests.benchmarks.growth import processor_seconds
from tests.benchmarks.markdown import markdown
from tests.benchmarks.waiting_line import REJECT_EVERY, WAIT_MS
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.parts import random_recipe
from tests.real.port import free_port

_CAMERAS, _FPS = 8, 10
_SHAPE, _SIZE, _DEADLINE_MS = (2048, 2448), 256, 30_000
_WAIT_MS, _REJECT_EVERY = 2, 50
_IMAGES, _START_S, _WARM_S = 5, 300, 5
_KINDS = {"mono": ".bmp", "colour": ".jpg"}
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """Processor seconds of one line by worker, and its frames."""

    seconds: dict[str, float]
    took_s: float
    frames: int
    scored: int
    uninspected: int
    snapshots: int

    def ms_a_frame(self, worker: str) -> float:
        return 1000 * self.seconds[worker] / self.frames


def write_images(folder: Path, kind: str) -> None:
    """Parts with a sensor's noise: without it, files and snapshots would be unusually small."""
    folder.mkdir()
    rows, columns = _SHAPE
    noise = np.random.default_rng(0)
    for number in range(_IMAGES):
        half = simulated.render("bottle-top", 0, number, 0.0, (columns // 2, rows // 2))
        image = cv2.resize(half, (columns, rows), interpolation=cv2.INTER_CUBIC)
        if kind == "mono":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        noisy = cv2.add(image, noise.integers(0, 6, image.shape, np.uint8))
        cv2.imwrite(str(folder / f"{number}{_KINDS[kind]}"), noisy)


def alone(job: Callable[[int], object], count: int) -> float:
    """Processor time of one job in ms, all threads."""
    job(0)
    began = time.process_time()
    for number in range(count):
        job(number)
    return 1000 * (time.process_time() - began) / count


def driver_ms(images: Path, count: int) -> float:
    camera = drivers.open(f"folder://{images}?fps=1000&loop=1")
    camera.open()
    try:
        return alone(lambda number: camera.read(1.0), count)
    finally:
        camera.close()


def prepare_ms(images: Sequence[Image], count: int) -> float:
    return alone(lambda number: prepare(images[number % len(images)], (_SIZE, _SIZE)), count)


def snapshot_ms(image: Image, folder: Path, count: int) -> float:
    """Processor time of one snapshot: drawn, compressed and written."""
    caption = Caption(
        verdict="reject",
        score=2.0,
        threshold=1.0,
        recipe="plate",
        camera="camera-0",
        frame=1,
        captured_utc="",
    )
    anomaly_map = np.full((_SIZE, _SIZE), 0.5, np.float32)
    kept = SnapshotFolder(folder, SnapshotSettings(min_free_gb=0))

    def write(number: int) -> None:
        name = snapshot_path(time.time_ns(), "camera-0", number, 2.0)
        kept.write(name, draw_overlay(image, anomaly_map, caption), image, {})

    return alone(write, count)


def alone_costs(images: Path, pictures: Sequence[Image], folder: Path) -> dict[str, float]:
    """Processor time in ms a frame of the steps that can be measured in this process."""
    return {
        "drivers": driver_ms(images, 2 * _IMAGES),
        "one copy into the ring": alone(lambda number: pictures[0].copy(), 4 * _IMAGES),
        "preparation": prepare_ms(pictures, 4 * _IMAGES),
        f"snapshots, of one frame in {_REJECT_EVERY}": snapshot_ms(pictures[0], folder, 5) / _REJECT_EVERY,
    }


def run_line(folder: Path, images: Path, count: int, fps: float, seconds: float) -> Run:
    names = [f"camera-{number}" for number in range(count)]
    cameras = "".join(
        f'[[camera]]\nname = "{name}"\nsource = "folder://{images}?fps={fps}&loop=1"\nrecipe = "plate"\n'
        f"deadline_ms = {_DEADLINE_MS}\n"
        for name in names
    )
    environment = {WAIT_MS: str(_WAIT_MS), REJECT_EVERY: str(_REJECT_EVERY), "PYTHONPATH": str(_ROOT)}
    with Mosquitto() as broker:
        config = folder / "line.toml"
        config.write_text(
            f'[line]\ndata = "data"\n{cameras}[scoring]\nruntime = "torch"\ndevice = "cpu"\n'
            f"[mqtt]\nport = {broker.port}\n[metrics]\nport = {free_port()}\n[review]\nport = {free_port()}\n"
            "[snapshots]\nmin_free_gb = 0\n",
            encoding="utf-8",
        )
        with Line(config, broker.port, environment, "tests.benchmarks.waiting_line") as line:
            line.await_ready(_START_S)
            time.sleep(_WARM_S)
            workers = {name: [line.pid(name)] for name in ("scoring", "publish", "snapshots", "review")}
            workers["capture"] = [line.pid(f"capture-{name}") for name in names]
            workers["supervisor"], workers["broker"] = [line.process.pid], [broker.pid]
            rings = [line.ring(name) for name in names]

            def spent() -> dict[str, float]:
                return {name: sum(map(processor_seconds, pids)) for name, pids in workers.items()}

            before, counts, shown, began = (
                spent(),
                [r.tally() for r in rings],
                line.snapshots(),
                time.monotonic(),
            )
            time.sleep(seconds)
            after, later, took = spent(), [r.tally() for r in rings], time.monotonic() - began
            snapshots = len(line.snapshots()) - len(shown)
            for ring in rings:
                ring.close()
            line.stop(_START_S)
    scored = sum(b.passed + b.rejected - a.passed - a.rejected for a, b in zip(counts, later, strict=True))
    uninspected = sum(sum(b.uninspected) - sum(a.uninspected) for a, b in zip(counts, later, strict=True))
    return Run(
        {name: after[name] - before[name] for name in workers},
        took,
        sum(b.cursor - a.cursor for a, b in zip(counts, later, strict=True)),
        scored,
        uninspected,
        snapshots,
    )


def costs(run: Run, of_driver: float, of_preparation: float) -> dict[str, float]:
    """Processor time in ms a frame, by what it is spent on."""
    prepared = of_preparation * run.scored / run.frames
    return {
        "drivers": of_driver,
        "transport": max(0.0, run.ms_a_frame("capture") - of_driver),
        "preparation": prepared,
        "rest of the scoring worker": max(0.0, run.ms_a_frame("scoring") - prepared),
        "publishing": run.ms_a_frame("publish"),
        "broker": run.ms_a_frame("broker"),
        "snapshots": run.ms_a_frame("snapshots"),
        "supervisor, page": run.ms_a_frame("supervisor") + run.ms_a_frame("review"),
    }


def cost_table(found: dict[str, float]) -> str:
    rate = _CAMERAS * _FPS
    largest = max(found, key=lambda what: found[what])
    rows = [["", "ms a frame", f"cores at {rate} frames a second"]]
    rows += [[what, f"{ms:.2f}", f"{ms * rate / 1000:.2f}"] for what, ms in found.items()]
    total = sum(found.values())
    rows.append(["together", f"{total:.2f}", f"{total * rate / 1000:.2f}"])
    return f"{markdown(rows)}\n\nlargest: {largest}"


def report(run: Run, found: dict[str, float], kind: str) -> str:
    a_snapshot = 1000 * run.seconds["snapshots"] / max(1, run.snapshots)
    return (
        f"{kind}, {_SHAPE[1]}x{_SHAPE[0]}: {run.frames / run.took_s:.1f} frames a second, {run.scored} "
        f"judged, {run.uninspected} uninspected\n\n{cost_table(found)}\n"
        f"{run.snapshots} snapshots of {a_snapshot:.0f} ms each"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kind", choices=list(_KINDS), default="mono", help="of the images (mono)")
    parser.add_argument("--cameras", type=int, default=_CAMERAS, metavar="N", help=f"({_CAMERAS})")
    parser.add_argument("--fps", type=float, default=_FPS, metavar="N", help=f"of each camera ({_FPS})")
    parser.add_argument("--seconds", type=float, default=30, metavar="N", help="of the line (30)")
    parser.add_argument("--alone", action="store_true", help="only the steps that need no running line")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG picture of it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = folder / "images"
        write_images(images, options.kind)
        random_recipe(folder / "data/recipes/plate", "resnet18", size=_SIZE)
        pictures = [image_file.read(file) for file in image_file.find(images)]
        if options.alone:
            found = alone_costs(images, pictures, folder / "snapshots")
            print(f"{options.kind}, {_SHAPE[1]}x{_SHAPE[0]}, each step alone\n\n{cost_table(found)}")
        else:
            # Before and after, so that a change of the machine's speed meets both kinds of measurement.
            before = driver_ms(images, 2 * _IMAGES), prepare_ms(pictures, 4 * _IMAGES)
            run = run_line(folder, images, options.cameras, options.fps, options.seconds)
            after = driver_ms(images, 2 * _IMAGES), prepare_ms(pictures, 4 * _IMAGES)
            found = costs(run, (before[0] + after[0]) / 2, (before[1] + after[1]) / 2)
            print(report(run, found, options.kind))
    if options.plot:
        bars = [Bar(what, ms * _CAMERAS * _FPS / 1000) for what, ms in found.items()]
        title = (
            f"{_CAMERAS} cameras, {_FPS} frames a second, 5 megapixels {options.kind}, without the network"
        )
        options.plot.write_text(draw_bars(title, "cores", bars), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
