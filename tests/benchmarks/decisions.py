"""What passes by the recipes' own thresholds: `python -m tests.benchmarks.decisions --data DIR --out DIR`.

DIR holds data sets in MVTec AD's layout, each in a folder. For each set and seed a recipe is trained by the
command line on train/good, and every test image is scored. A table has a row for each set: the image AUROC,
and the measured overkill (good parts rejected) and escape (defects that pass) at the recipe's own thresholds
for 1 % and 5 % overkill.

Of each folder of test images, sorted by path, every second one from the first on may choose settings of the
program. The others choose nothing and have a table of their own.

--checkout names another version's source tree; its program then trains and scores. Each set and seed is kept
as a JSON file in --out, and the same command continues with the missing ones. After a change of the program
use another --out, since finished ones are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from monitor.evaluation.auroc_pro import auroc
from monitor.evaluation.dataset import GOOD
from monitor.evaluation.intervals import exact_interval
from monitor.system.atomic_file import write_whole
from monitor.system.processor import processor_name, read_flags
from tests.benchmarks.markdown import markdown

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("decisions_child.py")
RATES = (0.01, 0.05)
RECIPE = "recipe"
"""The recipe's name in the data folder of its set and seed."""


class Half(StrEnum):
    """Which test images a table is about."""

    CHOOSING = "choosing"
    HELD = "held"
    ALL = "all"

    def has(self, position: int) -> bool:
        """Whether it has the image at that position in its folder."""
        return self is Half.ALL or (position % 2 == 0) == (self is Half.CHOOSING)


TITLES = {
    Half.CHOOSING: "Test images that may choose settings",
    Half.HELD: "Test images that choose nothing",
    Half.ALL: "All test images",
}


class DecisionError(Exception):
    """A set can't be measured. The message is one line with the fix."""


@dataclass(frozen=True)
class Settings:
    """What the figures of a set and seed depend on, apart from the program and the machine."""

    dataset: str
    """The absolute path of the set's folder."""
    seed: int
    train_options: tuple[str, ...]
    checkout: str
    """The absolute path of the source tree whose program trains and scores."""

    @property
    def name(self) -> str:
        return cell_name(Path(self.dataset).name, self.seed)


@dataclass(frozen=True)
class Point:
    """What a threshold does with the images of a half."""

    guarantee: float | None
    rejected: int
    """How many good images are above the threshold."""
    passed: int
    """How many defective images are not."""


@dataclass(frozen=True)
class Measured:
    """One set with one seed, on the images of one half."""

    good: int
    defective: int
    image_auroc: float
    points: Mapping[str, Point]
    """By the rate of overkill asked for."""
    teach_seconds: float
    ms: float


def measure_half(cell: Mapping[str, Any], half: Half) -> Measured:
    """The figures of a finished cell on the images of a half. Raises DecisionError where it lacks good or
    defective images."""
    images = [image for image in cell["images"] if half.has(image["position"])]
    good = np.array([image["score"] for image in images if image["type"] == GOOD], np.float64)
    defective = np.array([image["score"] for image in images if image["type"] != GOOD], np.float64)
    if not len(good) or not len(defective):
        raise DecisionError(f"{cell['settings']['dataset']}: {half}: no good or no defective test images")
    return Measured(
        good=len(good),
        defective=len(defective),
        image_auroc=auroc(good, defective),
        points={
            rate: Point(
                made["guarantee"],
                int((good > made["threshold"]).sum()),
                int((defective <= made["threshold"]).sum()),
            )
            for rate, made in cell["thresholds"].items()
        },
        teach_seconds=cell["teach_seconds"],
        ms=cell["ms"],
    )


def table(cells: Sequence[Mapping[str, Any]], half: Half) -> str:
    """A row for each set with the means over its seeds, and the mean of the sets."""
    by_set: dict[str, list[Measured]] = {}
    for cell in cells:
        name = Path(cell["settings"]["dataset"]).name
        by_set.setdefault(name, []).append(measure_half(cell, half))
    rates = list(cells[0]["thresholds"])
    head = ["set", "good + defective", "image AUROC"]
    for rate in rates:
        percent = f"{100 * float(rate):g} %"
        head += [f"{percent}: guaranteed", f"{percent}: overkill (95 % interval)", f"{percent}: escape"]
    rows = [[*head, "s to teach", "ms a frame"]]
    for name, found in by_set.items():
        row = [name, f"{found[0].good} + {found[0].defective}", f"{_mean_auroc(found):.3f}"]
        for rate in rates:
            row += [_guarantee(found, rate), _overkill(found, rate), f"{_mean_escape(found, rate):.3f}"]
        rows.append([*row, *_times(found)])
    sets = list(by_set.values())
    # Each set counts the same, whatever the number of its finished seeds.
    mean = ["mean", "", f"{fmean(map(_mean_auroc, sets)):.3f}"]
    for rate in rates:
        overkill = fmean(_mean_overkill(found, rate) for found in sets)
        mean += ["", f"{100 * overkill:.1f} %", f"{fmean(_mean_escape(found, rate) for found in sets):.3f}"]
    rows.append([*mean, *_times([one for found in sets for one in found])])
    return markdown(rows)


def _mean_auroc(found: Sequence[Measured]) -> float:
    return fmean(one.image_auroc for one in found)


def _mean_overkill(found: Sequence[Measured], rate: str) -> float:
    return fmean(one.points[rate].rejected / one.good for one in found)


def _mean_escape(found: Sequence[Measured], rate: str) -> float:
    return fmean(one.points[rate].passed / one.defective for one in found)


def _times(found: Sequence[Measured]) -> list[str]:
    return [f"{fmean(one.teach_seconds for one in found):.0f}", f"{fmean(one.ms for one in found):.1f}"]


def _guarantee(found: Sequence[Measured], rate: str) -> str:
    """The largest rate that one of the recipes guarantees; - where one of them guarantees none."""
    guarantees = [one.points[rate].guarantee for one in found]
    known = [guarantee for guarantee in guarantees if guarantee is not None]
    return f"{100 * max(known):.2g} %" if len(known) == len(guarantees) else "-"


def _overkill(found: Sequence[Measured], rate: str) -> str:
    # The seeds share their test images: their counts are averaged, since a sum would make the interval too
    # narrow.
    rejected = round(fmean(one.points[rate].rejected for one in found))
    low, high = exact_interval(rejected, found[0].good)
    return f"{100 * _mean_overkill(found, rate):.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def read_cell(file: Path, settings: Settings) -> dict[str, Any] | None:
    """A finished cell, or None if it is missing. Raises DecisionError if it was made with other settings."""
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        made = content["settings"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DecisionError(f"{file}: not a cell of this table ({error!r}): delete it") from None
    ours = json.loads(json.dumps(asdict(settings)))
    if made != ours:
        other = ", ".join(f"{key} {made.get(key)}" for key in ours if made.get(key) != ours[key])
        raise DecisionError(f"{file}: made with {other}: use another --out, or delete it")
    return content


def cell_name(set_name: str, seed: int) -> str:
    """The name of the cell of a set and a seed."""
    return f"{set_name}-{seed}"


def work_folder(out: Path, cell: str) -> Path:
    """The folder in which a cell's recipe is trained. `out` is `--out`."""
    return out / "work" / cell


def recipe_folder(out: Path, cell: str) -> Path:
    """The folder of a cell's recipe. `out` is `--out`."""
    return work_folder(out, cell) / "data/recipes" / RECIPE


def add_trained_recipes(parser: argparse.ArgumentParser) -> None:
    """The options of other commands that use the recipes which this one has trained."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the sets")
    parser.add_argument(
        "--recipes", type=Path, required=True, metavar="DIR", help="the --out of tests.benchmarks.decisions"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the recipes (0)")


def measure(settings: Settings, out: Path) -> dict[str, Any]:
    """Trains a recipe and scores the test images, both by the checkout's program in processes of their own,
    and keeps the result in `out`. Raises DecisionError."""
    work = work_folder(out, settings.name)
    # A training that was interrupted would go on where it stopped, and its time would be wrong.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    config = work / "line.toml"
    config.write_text('[line]\ndata = "data"\n')
    dataset, log = Path(settings.dataset), work / "log.txt"
    train = ["-m", "monitor.cli", "--config", config, "train", RECIPE, "--images", dataset / "train" / GOOD]
    train += ["--seed", settings.seed, "--overkill", RATES[0], *settings.train_options]
    began = time.monotonic()
    run_python(train, settings, log)
    teach_seconds = time.monotonic() - began
    scored = work / "scored.json"
    child = [CHILD, "--checkout", settings.checkout, "--recipe", recipe_folder(out, settings.name)]
    run_python([*child, "--dataset", dataset, "--out", scored, "--rates", *RATES], settings, log)
    content = {
        "settings": asdict(settings),
        "commit": commit_of(settings.checkout),
        "processor": processor(),
        "teach_seconds": round(teach_seconds, 1),
        **json.loads(scored.read_text()),
    }
    write_whole(out / f"{settings.name}.json", (json.dumps(content, indent=1) + "\n").encode())
    return content


def run_python(arguments: Sequence[object], settings: Settings, log: Path) -> None:
    """Runs the checkout's program; its output goes to the end of `log`. Raises DecisionError with the last
    line of it if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LINE_MONITOR")}
    # Threads that spin while they wait would slow down the other processes.
    environment |= {"PYTHONPATH": settings.checkout, "GOMP_SPINCOUNT": "1000"}
    with log.open("a") as output:
        # -P: neither the current folder nor the script's own may hide the checkout.
        command = [sys.executable, "-P", *map(str, arguments)]
        ended = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
    if ended.returncode:
        last = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise DecisionError(f"{settings.name}: exit {ended.returncode}: {last} (all of it in {log})")


def commit_of(checkout: str) -> str:
    """The commit of a source tree; `-dirty` where files were changed since."""
    command = ["git", "-C", checkout, "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def processor() -> str:
    """The processor's name and the number of its cores that this process may use."""
    amx = "with" if "amx_bf16" in read_flags() else "without"
    return f"{len(os.sched_getaffinity(0))} cores of {processor_name()}, {amx} AMX"


def find_sets(data: Path) -> list[str]:
    """The folders of `data` that hold a set in MVTec AD's layout."""
    return sorted(
        folder.name
        for folder in data.iterdir()
        if (folder / "train" / GOOD).is_dir() and (folder / "test" / GOOD).is_dir()
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the sets")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for cells and recipes")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="(all of DIR)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="(0 1 2)")
    parser.add_argument(
        "--train-options", default="", metavar="TEXT", help='of `train`, as in --train-options="--epochs 15"'
    )
    parser.add_argument("--checkout", type=Path, default=ROOT, metavar="DIR", help="(this source tree)")
    parser.add_argument(
        "--half",
        nargs="+",
        type=Half,
        choices=list(Half),
        default=[Half.CHOOSING, Half.HELD],
        help="a table for each of these (choosing held)",
    )
    return parser


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    known = find_sets(options.data) if options.data.is_dir() else []
    wanted = options.sets or known
    if not wanted or not set(wanted) <= set(known):
        missing = ", ".join(sorted(set(wanted) - set(known))) or "set"
        parser.error(f"{options.data}: no {missing} with train/good and test/good there")
    options.out.mkdir(parents=True, exist_ok=True)
    checkout = str(options.checkout.resolve())
    now = commit_of(checkout)
    cells, failed = [], 0
    for name in wanted:
        for seed in options.seeds:
            train_options = tuple(shlex.split(options.train_options))
            settings = Settings(str((options.data / name).resolve()), seed, train_options, checkout)
            try:
                cell = read_cell(options.out / f"{settings.name}.json", settings)
                state = f"kept from before, made by {cell['commit']}" if cell else "training and scoring"
                print(f"{settings.name}: {state}", file=sys.stderr, flush=True)
                cells.append(cell or measure(settings, options.out.resolve()))
            except DecisionError as error:
                failed += 1
                print(error, file=sys.stderr, flush=True)
    if cells:
        for half in options.half:
            print(f"{TITLES[half]}:\n\n{table(cells, half)}\n")
        commits = ", ".join(sorted({cell["commit"] for cell in cells}))
        processors = "; ".join(sorted({cell["processor"] for cell in cells}))
        print(f"program {commits} (now {now}); seeds {options.seeds}; {processors}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
