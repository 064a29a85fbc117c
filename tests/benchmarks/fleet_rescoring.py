"""An archive by listing: how fast it is rescored by 1 and 2 workers beside one scorer alone, and the memory.

The archive is a folder of snapshots: each entry is a link to one of a few real images. The driver is
`line-monitor fleet rescore`, in a process of its own. On a machine with other work the images a second tell
little, since other programs take processors from two workers sooner than from one: there compare the
processor seconds of all processes, Ray's too, with those of one scorer alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from monitor.fleet.rescoring import SHARD
from monitor.verdict import snapshot_path
from tests.benchmarks.fleet_processes import (
    Kind,
    compare_peaks,
    follow_processes,
    sum_processor_seconds,
)
from tests.benchmarks.fleet_training import program_environment
from tests.benchmarks.markdown import markdown
from tests.real.parts import part, random_recipe, save

_LINKS = 60_000
"""Links to one file; ext4 allows 65,000."""
_DAYS = 30
_START_NS = 1_793_000_000_000_000_000
_ALONE = """
import itertools, os, sys, time
from pathlib import Path
from monitor.fleet.archive_listing import list_archive
from monitor.fleet.archive_scorer import ArchiveScorer, ScorerSettings, find_recipe
recipe, archive, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
os.sched_setaffinity(0, {int(sys.argv[4])})
scorer = ArchiveScorer([find_recipe(recipe.parent, recipe.name)], ScorerSettings("cpu", "auto", "auto", 1))
entries = list(itertools.islice(list_archive([archive]), count))
list(scorer.rows(entries[:64]))
began, spent = time.monotonic(), time.process_time()
rows = sum(1 for _ in scorer.rows(entries))
print((time.monotonic() - began) / rows, (time.process_time() - spent) / rows)
"""
"""Reads, decodes and scores as a worker does, without Ray, on one processor: a worker has no more either, as
soon as each processor has one."""


@dataclass(frozen=True)
class AloneRun:
    """What one scorer without Ray takes for an image."""

    seconds: float
    processor_s: float

    def mean(self, other: AloneRun) -> AloneRun:
        return AloneRun(fmean((self.seconds, other.seconds)), fmean((self.processor_s, other.processor_s)))


@dataclass(frozen=True)
class RescoringRun:
    """What one rescoring took, from the first progress after each worker's first shard on."""

    workers: int
    entries: int
    """Those that were scored in that time."""
    seconds: float
    processor_s: dict[Kind, float]
    peak_mib: dict[Kind, tuple[float, float]]
    """The resident memory of the largest process: its peak in the first and in the last third."""

    def row(self, one: AloneRun, many: AloneRun) -> list[str]:
        """The row of the table, beside one scorer without Ray and as many of them at once as there are
        workers."""
        rate = self.entries / self.seconds
        spent = {kind: 1000 * seconds / self.entries for kind, seconds in self.processor_s.items()}
        peaks = [f"{first:.0f}, {last:.0f}" for first, last in self.peak_mib.values()]
        return [
            str(self.workers),
            str(self.entries),
            f"{rate:.1f}",
            f"{rate * one.seconds / self.workers:.2f}",
            f"{rate * many.seconds / self.workers:.2f}",
            f"{1000 * one.processor_s:.2f}",
            f"{1000 * many.processor_s:.2f}",
            *(f"{each:.2f}" for each in spent.values()),
            f"{1000 * many.processor_s / sum(spent.values()):.2f}",
            *peaks,
        ]


_COLUMNS = [
    "workers",
    "images",
    "images/s",
    "of workers x one scorer",
    "of as many scorers at once",
    "one scorer: processor ms an image",
    "as many at once: ms",
    *(f"{kind} ms" for kind in Kind),
    "as many at once / all",
    *(f"{kind} MiB" for kind in Kind),
]


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


def measure_alone(recipe: Path, archive: Path, count: int, at_once: int) -> AloneRun:
    """So many scorers of one thread at once, each on a processor of its own; the mean of them."""
    processors = sorted(os.sched_getaffinity(0))
    running = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", _ALONE, str(recipe), str(archive), str(count), str(processor)],
            env=program_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for processor in processors[:at_once]
    ]
    said = [process.communicate()[0].split() for process in running]
    seconds, processor_s = zip(*(map(float, words[-2:]) for words in said), strict=True)
    return AloneRun(fmean(seconds), fmean(processor_s))


def measure(config: Path, recipe: Path, archive: Path, entries: int, workers: int) -> RescoringRun:
    """Runs the command and follows its processes."""
    out = config.with_name(f"scores-{workers}")
    command = ["--config", str(config), "fleet", "rescore", str(recipe), "--archive", str(archive)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "monitor.cli", *command, "-o", str(out), "--workers", str(workers)],
        env=program_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    times: list[tuple[float, int]] = []
    with follow_processes(process.pid) as samples:
        assert process.stderr is not None
        for line in process.stderr:
            print(f"  {line.rstrip()}", flush=True)
            if line.startswith("rescore:"):
                done = int(line.split()[1].split("/")[0])
                if times or done >= SHARD * workers:
                    times.append((time.monotonic(), done))
        code = process.wait()
    if code != 0 or len(times) < 2:
        raise RuntimeError(f"the rescoring has ended with {code}, after {len(times)} lines: raise --entries")
    (began, first), (ended, _) = times[0], times[-1]
    busy = [one for one in samples if began <= one.at_s <= ended]
    return RescoringRun(
        workers, entries - first, ended - began, sum_processor_seconds(busy), compare_peaks(busy)
    )


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
        rows = [_COLUMNS]
        for workers in options.workers:
            kinds = [1, workers]
            before = [measure_alone(recipe, folder / "archive", options.alone, kind) for kind in kinds]
            run = measure(config, recipe, folder / "archive", options.entries, workers)
            after = [measure_alone(recipe, folder / "archive", options.alone, kind) for kind in kinds]
            print(f"without Ray, before and after: {before}, {after}", flush=True)
            rows.append(run.row(*(earlier.mean(later) for earlier, later in zip(before, after, strict=True))))
            print(markdown(rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
