"""Compares teachers and modes: `python -m tests.benchmarks.accuracy --dataset DIR --out DIR`.

For each teacher it trains one recipe in the default mode and one as in the paper, on DIR/train/good,
evaluates them on DIR/test (MVTec AD's layout), and prints one table. Each finished cell is kept in --out, and
the same command continues with the missing cells. After a change of the program use another --out, since
finished cells are not made again.

The teacher `random` is an untrained ResNet-18, with mean 0 and variance 1 in its batch normalisation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitor.evaluation.dataset import GOOD
from monitor.evaluation.evaluate import EvaluationError
from monitor.model.recipe_json import RecipeError
from monitor.system.progress import choose_progress
from monitor.teachers.architectures import TeacherError, teacher_names
from monitor.training.thresholds import CalibrationError
from monitor.training.train_recipe import TrainingError
from tests.benchmarks.cells import RANDOM, Cell, CellError, Mode, Settings, measure, read
from tests.benchmarks.markdown import markdown

TEACHERS = (RANDOM, "resnet18-bundled", "squeezenet1_1")
FIGURES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pro": "PRO",
    "overkill": "overkill",
    "escape": "escape",
}


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Finished cells as a Markdown table, with `-` for a missing value."""
    kinds = sorted({kind for cell in cells for kind in cell["evaluation"]["per_type"]} - {GOOD})
    rows = [["teacher", "mode", *FIGURES.values(), *kinds, "epoch kept", "minutes"]]
    for cell in cells:
        found = cell["evaluation"]
        per_type = [found["per_type"].get(kind, {}).get("image_auroc") for kind in kinds]
        figures = [_shown(value) for value in (*(found[key] for key in FIGURES), *per_type)]
        kept = f"{cell['best_epoch']}/{cell.get('epochs') or cell['settings']['epochs']}"
        rows.append([cell["teacher"], cell["mode"], *figures, kept, f"{cell['train_seconds'] / 60:.1f}"])
    return markdown(rows)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(text: str) -> Cell:
    teacher, _, mode = text.partition(":")
    if teacher not in (RANDOM, *teacher_names()):
        raise argparse.ArgumentTypeError(
            f"unknown teacher {teacher!r}: {RANDOM}, {', '.join(teacher_names())}"
        )
    if mode not in list(Mode):
        raise argparse.ArgumentTypeError(f"{text!r} is not TEACHER:MODE, with mode {' or '.join(Mode)}")
    return Cell(teacher, Mode(mode))


def _weights(text: str) -> tuple[str, Path]:
    teacher, _, file = text.partition("=")
    if not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not TEACHER=FILE")
    return teacher, Path(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="the data set with train/good, test, ..."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for cells and recipes")
    parser.add_argument(
        "--teachers", nargs="+", choices=(RANDOM, *teacher_names()), default=TEACHERS, metavar="NAME"
    )
    parser.add_argument(
        "--teacher-weights",
        nargs="+",
        type=_weights,
        default=[],
        metavar="NAME=FILE",
        help="of these teachers",
    )
    parser.add_argument("--modes", nargs="+", type=Mode, choices=list(Mode), default=list(Mode))
    parser.add_argument("--only", nargs="+", type=_cell, metavar="TEACHER:MODE", help="make only these cells")
    parser.add_argument("--epochs", type=int, metavar="N", help="(as train chooses)")
    parser.add_argument("--size", type=int, default=256, metavar="PX")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--overkill", type=float, default=0.01, metavar="R", help="calibrated for (0.01)")
    options = parser.parse_args()
    if not (options.dataset / "train" / "good").is_dir():
        parser.error(f"{options.dataset}: no train/good there: --dataset is a category in MVTec AD's layout")
    settings = Settings(
        str(options.dataset.resolve()), options.epochs, options.size, options.seed, options.overkill
    )
    wanted = options.only or [Cell(teacher, mode) for teacher in options.teachers for mode in options.modes]
    weights = dict(options.teacher_weights)
    options.out.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    done, failed = [], 0
    for cell in wanted:
        try:
            found = read(options.out / f"{cell.name}.json", settings)
            if found is None:
                say(f"{cell}:")
                found = measure(
                    cell,
                    settings,
                    out=options.out,
                    weights=weights.get(cell.teacher),
                    say=say,
                    progress=choose_progress(sys.stderr),
                )
            else:
                say(f"{cell}: kept from before")
            done.append(found)
        except (
            CellError,
            TrainingError,
            TeacherError,
            CalibrationError,
            RecipeError,
            EvaluationError,
        ) as error:
            failed += 1
            say(f"{cell}: {error}")
    if done:
        print(table(done))
        images = done[0]["evaluation"]["images"]
        print(
            f"\n{images} test images, {settings.size} pixels, seed {settings.seed}; overkill and escape at "
            f"the threshold for {100 * settings.overkill:g} % overkill; by type: image AUROC"
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
