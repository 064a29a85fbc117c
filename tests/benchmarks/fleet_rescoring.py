"""An archive by listing: how fast it is rescored by 1 and 2 workers beside one scorer alone, and the memory.

The archive is a folder of snapshots: each entry is a link to one of a few real images. The driver is
`line-monitor fleet rescore`, in a process of its own. Run it on a quiet machine: the ratio is of one run, but
other programs take processors from two workers sooner than from one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitor.verdict import snapshot_path
from tests.benchmarks.fleet_training import program_environment
from tests.benchmarks.markdown import markdown
from tests.real.parts import part, random_recipe, save

_LINKS = 60_000
"""Links to one file; ext4 allows 65,000."""
_DAYS = 30
_START_NS = 1_793_000_000_000_000_000
_ALONE = """
import sys, time
from pathlib import Path
from monitor.fleet.archive_scorer import ArchiveScorer, ScorerSettings, find_recipe
from monitor.fleet.archive_listing import list_archive
import itertools
recipe, archive, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
scorer = ArchiveScorer([find_recipe(recipe.parent, recipe.name)], ScorerSettings("cpu", "auto", "auto", 1))
entries = list(itertools.islice(list_archive([archive]), count))
list(scorer.rows(entries[:64]))
began = time.monotonic()
rows = sum(1 for _ in scorer.rows(entries))
print(rows / (time.monotonic() - began))
"""
"""Reads, decodes and scores as a worker does, without Ray."""


@dataclass(frozen=True)
class RescoringRun:
    """What one rescoring took."""

    workers: int
    entries: int
    seconds: float
    """Of the scoring, as the progress says it: without the start of Ray."""
    peak_mib: dict[str, tuple[float, float]]
    """The resident memory by kind of process: its peak in the first and in the last third of the run."""

    @property
    def images_a_second(self) -> float:
        return self.entries / self.seconds


def make_archive(folder: Path, entries: int, side: int) -> None:
    """So many frames of 30 days, evenly spread."""
    files = [folder.with_name("images") / f"{number}.png" for number in range(max(8, -(-entries // _LINKS)))]
    for number, file in enumerate(files):
        save(file, part(number, side=side))
    step_ns = _DAYS * 86_400_000_000_000 // entries
    made: set[Path] = set()
    for number in range(entries):
        place = folder / snapshot_path(_START_NS + number * step_ns, "top", number + 1, 0.5)
        if place.parent not in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            made.add(place.parent)
        os.link(files[number % len(files)], place.with_suffix(".png"))


def measure_alone(recipe: Path, archive: Path, count: int) -> float:
    """Images a second of one scorer with one thread."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ALONE, str(recipe), str(archive), str(count)],
        env=program_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


def measure(config: Path, recipe: Path, archive: Path, entries: int, workers: int) -> RescoringRun:
    """Runs the command and follows the memory of its processes."""
    out = config.with_name(f"scores-{workers}")
    command = ["--config", str(config), "fleet", "rescore", str(recipe), "--archive", str(archive)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "monitor.cli", *command, "-o", str(out), "--workers", str(workers)],
        env=program_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    began: float | None = None
    with follow_memory(process.pid) as samples:
        assert process.stderr is not None
        for line in process.stderr:
            print(f"  {line.rstrip()}", flush=True)
            if line.startswith("rescore:") and began is None:
                began, first = time.monotonic(), int(line.split()[1].split("/")[0])
            if line.startswith("rescore:"):
                ended = time.monotonic()
        code = process.wait()
    if code != 0 or began is None:
        raise RuntimeError(f"the rescoring has ended with {code}")
    seconds = (ended - began) * entries / max(1, entries - first)
    return RescoringRun(workers, entries, seconds, compare_peaks(samples))


@contextmanager
def follow_memory(pid: int) -> Iterator[list[dict[str, float]]]:
    """Samples the memory of the driver and of the scorers every second."""
    samples: list[dict[str, float]] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(1.0):
            samples.append({"driver": resident_mib(pid), "scorers": scorers_mib()})

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def resident_mib(pid: int) -> float:
    """Memory of a process that is its own, without files and shared memory; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def scorers_mib() -> float:
    """The largest of the actors' processes."""
    found = [0.0]
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::MapWorker"):
            found.append(resident_mib(int(place.parent.name)))
    return max(found)


def compare_peaks(samples: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """The peaks in the first and in the last third of the time in which scorers were there."""
    busy = [sample for sample in samples if sample["scorers"] > 0]
    third = max(1, len(busy) // 3)
    return {
        kind: (max(s[kind] for s in busy[:third]), max(s[kind] for s in busy[-third:]))
        for kind in ("driver", "scorers")
        if busy
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=256, help="pixels of the recipe and of the images")
    parser.add_argument("--teacher", default="resnet18")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--alone", type=int, default=2000, help="images for one scorer without Ray")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        config = folder / "line.toml"
        config.write_text('[line]\ndata = "data"\n')
        recipe = random_recipe(folder / "data/recipes/parts", options.teacher, size=options.size).folder
        make_archive(folder / "archive", options.entries, options.size)
        print(f"archive of {options.entries} entries", flush=True)
        rows = [["workers", "entries", "images/s", "of workers x one scorer", "driver MiB", "scorer MiB"]]
        for workers in options.workers:
            before = measure_alone(recipe, folder / "archive", options.alone)
            run = measure(config, recipe, folder / "archive", options.entries, workers)
            alone = (before + measure_alone(recipe, folder / "archive", options.alone)) / 2
            print(f"one scorer alone: {alone:.1f} images a second", flush=True)
            peaks = [f"{first:.0f} then {last:.0f}" for first, last in run.peak_mib.values()]
            rate = run.images_a_second
            shown = [str(workers), str(run.entries), f"{rate:.1f}", f"{rate / (workers * alone):.2f}"]
            rows.append([*shown, *peaks])
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
