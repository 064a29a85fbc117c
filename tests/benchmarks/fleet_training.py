"""Small recipes on a Ray cluster of three nodes on this machine; one node is killed, then the driver.

It prints whether every recipe is right, how many began more than once with the first epoch, and how many
equal the recipe that `line-monitor train` gives alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.fleet.training_record import FOLDER, TrainingRecord, TrainingState, read_record, record_file
from monitor.training.checkpoint import FILE as CHECKPOINT
from monitor.training.checkpoint import checkpoint_folder
from tests.benchmarks.fleet_cluster import open_cluster
from tests.real.parts import good_parts, teacher_file

ROOT = Path(__file__).resolve().parents[2]
_OPTIONS = {"teacher": "squeezenet1_1", "size": 64, "compare": "student", "int8": False}
_POLL_S = 0.02


@dataclass(frozen=True)
class Plant:
    """A data folder with images of good parts, a teacher, settings and a manifest."""

    folder: Path
    recipes: tuple[str, ...]
    epochs: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def records(self) -> Path:
        return self.data / FOLDER

    def read_records(self) -> dict[str, TrainingRecord]:
        found = {name: read_record(record_file(self.records, name)) for name in self.recipes}
        return {name: record for name, record in found.items() if record is not None}

    def finished(self) -> int:
        return sum(record.result is not None for record in self.read_records().values())

    def interruptible_nodes(self) -> list[str]:
        """The nodes of the trainings under way; none while one of these has no checkpoint yet."""
        folder = self.data / "recipes"
        begun = {name: record for name, record in self.read_records().items() if not record.result}
        if not all((checkpoint_folder(folder, name) / CHECKPOINT).exists() for name in begun):
            return []
        return [record.node.rpartition(":")[2] for record in begun.values()]


def make_plant(folder: Path, count: int, epochs: int) -> Plant:
    good_parts(folder / "good", 40)
    for data in ("data", "alone"):
        teacher_file(folder / data / "teachers")
        (folder / f"{data}.toml").write_text(f'[line]\ndata = "{data}"\n')
    recipes = tuple(f"disc-{number}" for number in range(count))
    tables = [
        "\n".join(
            [
                "[[recipe]]",
                f'name = "{name}"',
                'images = "good"',
                f"seed = {seed}",
                f"epochs = {epochs}",
                *(f"{key} = {json.dumps(value)}" for key, value in _OPTIONS.items()),
            ]
        )
        for seed, name in enumerate(recipes)
    ]
    (folder / "manifest.toml").write_text("\n\n".join(tables) + "\n")
    return Plant(folder, recipes, epochs)


def start_driver(plant: Plant, address: str) -> subprocess.Popen[bytes]:
    arguments = ["--config", "data.toml", "fleet", "train", "manifest.toml", "--address", address]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "monitor.cli", *arguments],
        cwd=plant.folder,
        env=program_environment(),
        stdout=subprocess.DEVNULL,
    )


def program_environment() -> dict[str, str]:
    """The environment of a program of this source tree with one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[bytes], seconds: float) -> None:
    """Raises RuntimeError when the driver ends or the time is over before the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        if driver.poll() is not None:
            raise RuntimeError(f"the driver has ended with {driver.returncode}: raise --epochs")
        if time.monotonic() > until:
            raise RuntimeError(f"nothing came of it in {seconds:.0f} s")
        time.sleep(_POLL_S)


def train_alone(plant: Plant, seed: int, name: str) -> None:
    options = [
        *("--images", "good", "--epochs", str(plant.epochs), "--seed", str(seed), "--device", "cpu"),
        *("--teacher", "squeezenet1_1", "--size", "64", "--compare", "student", "--no-int8"),
    ]
    subprocess.run(
        [sys.executable, "-P", "-m", "monitor.cli", "--config", "alone.toml", "train", name, *options],
        cwd=plant.folder,
        env=program_environment(),
        check=True,
        capture_output=True,
    )


def read_recipe(data: Path, name: str) -> dict[str, Any]:
    """A recipe's document without what tells of the time."""
    document: dict[str, Any] = json.loads((data / "recipes" / name / "recipe.json").read_text())
    for key in ("utc", "seconds"):
        document["training"].pop(key)
    document.pop("lineage", None)
    return document


def run(folder: Path, count: int, epochs: int, seconds: float, alone: int) -> dict[str, Any]:
    """Kills a node and the driver on the way. Returns the figures."""
    plant = make_plant(folder, count, epochs)
    drivers: list[subprocess.Popen[bytes]] = []
    began = time.monotonic()
    with open_cluster(nodes=3, cpus=1, source_tree=str(ROOT)) as (cluster, nodes):
        try:
            code = _interrupt(plant, cluster, nodes, drivers, seconds)
        finally:
            for driver in drivers:
                driver.kill()
    took = time.monotonic() - began
    with ThreadPoolExecutor(max_workers=2) as pool:
        checked = plant.recipes[:alone]
        list(pool.map(lambda pair: train_alone(plant, *pair), enumerate(checked)))
    return {"exit": code, "seconds": round(took), **count_results(plant, checked)}


def _interrupt(
    plant: Plant, cluster: Any, nodes: Sequence[Any], drivers: list[subprocess.Popen[bytes]], seconds: float
) -> int:
    """Kills a node and the driver on the way, and returns the second driver's exit code."""
    count = len(plant.recipes)
    by_name = {node.node_id[:6]: node for node in nodes}
    driver = start_driver(plant, cluster.address)
    drivers.append(driver)
    victims: list[Any] = []

    def find_victims() -> bool:
        if plant.finished() >= count // 6:
            victims[:] = [by_name[name] for name in plant.interruptible_nodes() if name in by_name]
        return bool(victims)

    wait_until(find_victims, driver, seconds)
    cluster.remove_node(victims[0], allow_graceful=False)
    print(f"a node is killed after {plant.finished()} recipes", flush=True)
    wait_until(lambda: plant.finished() >= count // 2 and bool(plant.interruptible_nodes()), driver, seconds)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    print(f"the driver is killed after {plant.finished()} recipes and started anew", flush=True)
    driver = start_driver(plant, cluster.address)
    drivers.append(driver)
    return driver.wait(timeout=seconds)


def count_results(plant: Plant, checked: Sequence[str]) -> dict[str, Any]:
    """How the trainings went, by their records, and which equal those that were trained alone."""
    records = [read_record(record_file(plant.records, name)) for name in plant.recipes]
    known = [record for record in records if record is not None and record.result is not None]
    equal = [read_recipe(plant.data, name) == read_recipe(plant.folder / "alone", name) for name in checked]
    return {
        "recipes": len(plant.recipes),
        "trained": sum(record.result.state is TrainingState.TRAINED for record in known if record.result),
        "begun more than once with the first epoch": sum(record.starts > 1 for record in known),
        "resumed": sum(bool(record.resumed_at) for record in known),
        "compared with train alone": len(equal),
        "equal to train alone": sum(equal),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--alone", type=int, help="how many are compared with train alone (all)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="the longest wait for each step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        alone = options.recipes if options.alone is None else options.alone
        figures = run(Path(folder), options.recipes, options.epochs, options.seconds, alone)
    for name, value in figures.items():
        print(f"{name}: {value}")
    right = figures["trained"] == figures["recipes"] and figures["exit"] == 0
    same = figures["equal to train alone"] == figures["compared with train alone"]
    return 0 if right and same and not figures["begun more than once with the first epoch"] else 1


if __name__ == "__main__":
    sys.exit(main())
