"""Anomalib's STFPM compared: `python -m tests.benchmarks.beside_anomalib --dataset DIR --out DIR ...`.

Both use the same images, the same ResNet-18 teacher, their own defaults, and the same calculation of the
figures. Anomalib runs in its own environment, whose Python is --anomalib-python; it is no dependency of this
project. Anomalib 2.7 has no default number of epochs. The values of its example are used: up to 100 with
early stopping on the pixel AUROC of the validation images, which by default are the test images, or all
without early stopping.

The result of each program is kept in --out, and the same command continues with the missing one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers import image_file
from drivers.image_file import ImageError
from monitor.evaluation.auroc_pro import auroc, per_region_overlap, regions_of
from monitor.evaluation.dataset import GOOD
from monitor.evaluation.evaluate import EvaluationError
from monitor.evaluation.masks import resize_mask
from monitor.images import preprocessing
from monitor.model.recipe_json import RecipeError
from monitor.system.progress import choose_progress
from monitor.teachers.architectures import TeacherError, find_teacher
from monitor.training.thresholds import CalibrationError
from monitor.training.train_recipe import TrainingError
from tests.benchmarks.cells import Cell, CellError, Mode, Settings, measure, read, write
from tests.benchmarks.markdown import markdown

CHILD = Path(__file__).with_name("anomalib_child.py")


class Stopping(StrEnum):
    """The rule by which Anomalib's training ends."""

    EARLY = "early"
    """With the early stopping of Anomalib's example."""
    FULL = "full"
    """After all epochs."""


def anomalib_side(
    python: Path, request: Mapping[str, Any], weights: Path, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Anomalib's result for `request`, from `out` or made now in its own environment. Raises CellError."""
    file = out / f"anomalib-{request['stopping']}.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["request"] != request:
            raise CellError(f"{file}: made with {kept['request']}: name another --out, or delete it")
        say(f"anomalib, {request['stopping']}: kept from before")
        return kept
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [
            *(str(python.absolute()), str(CHILD)),
            *("--dataset", request["dataset"]),
            *("--teacher-weights", str(weights.absolute())),
            *("--epochs", str(request["epochs"])),
            *("--seed", str(request["seed"])),
            *(("--size", str(request["size"])) if request["size"] else ()),
            *(("--early-stopping",) if request["stopping"] == Stopping.EARLY else ()),
            *("--maps", str(file.with_suffix(".npz").absolute())),
            *("--answer", str(answer)),
        ]
        # Anomalib's environment must not import anything of this project.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        try:
            code = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        except OSError as error:
            raise CellError(
                f"{python}: {error.strerror}: name the python of Anomalib's environment"
            ) from None
        if code != 0:
            raise CellError(f"Anomalib's side ended with exit status {code}: what it said is above")
        content = {"request": dict(request), **json.loads(answer.read_text())}
    write(file, content)
    return content


def figures(scores: Mapping[str, float]) -> dict[str, float]:
    """Image AUROC of all images (`all`) and of each type, by the function that evaluates recipes."""
    by_kind: dict[str, list[float]] = {}
    for name, score in scores.items():
        by_kind.setdefault(Path(name).parts[1], []).append(score)
    good = np.array(by_kind.pop(GOOD))
    found = {kind: auroc(good, np.array(bad)) for kind, bad in sorted(by_kind.items())}
    return {"all": auroc(good, np.concatenate(list(by_kind.values()))), **found}


def pixel_figures(maps: Path, dataset: Path) -> tuple[float, float]:
    """Pixel AUROC and PRO of maps in an .npz, as `evaluate_recipe` has them: at the maps' own size."""
    negatives: list[NDArray[np.float32]] = []
    regions: list[NDArray[np.float32]] = []
    with np.load(maps) as kept:
        for name in kept.files:
            anomaly_map = kept[name]
            defect = _mask(dataset, Path(name), len(anomaly_map))
            negatives.append(anomaly_map[~defect])
            regions += regions_of(anomaly_map, defect)
    ordered = np.concatenate(negatives)
    return auroc(ordered, np.concatenate(regions)), per_region_overlap(ordered, regions)


def _mask(dataset: Path, name: Path, size: int) -> NDArray[np.bool_]:
    """(size, size), as `evaluate_recipe` reads them. Raises CellError."""
    if name.parts[1] == GOOD:
        return np.zeros((size, size), np.bool_)
    folder = dataset / "ground_truth" / name.parts[1]
    for file in (folder / f"{name.stem}_mask.png", folder / f"{name.stem}.png"):
        if file.is_file():
            try:
                return resize_mask(image_file.read(file), preprocessing.as_size(size))
            except ImageError as error:
                raise CellError(f"{file}: {error}") from None
    raise CellError(f"{dataset / name}: no mask in {folder}: Anomalib needs one for each defective image")


def anomalib_row(answer: Mapping[str, Any], maps: Path, dataset: Path) -> dict[str, Any]:
    by_kind = figures(answer["scores"])
    pixel_auroc, pro = pixel_figures(maps, dataset)
    per_epoch = [figures(epoch["scores"])["all"] for epoch in answer["trace"]]
    return {
        "who": f"Anomalib {answer['versions']['anomalib']}, {answer['request']['stopping']}",
        "image_auroc": by_kind.pop("all"),
        "pixel_auroc": pixel_auroc,
        "pro": pro,
        "per_type": by_kind,
        "epochs": answer["epochs"],
        "seconds": answer["train_seconds"],
        "best_epoch": int(np.argmax(per_epoch)) + 1,
        "best_image_auroc": max(per_epoch),
        "settings": answer["settings"],
        "versions": answer["versions"],
    }


def our_row(cell: Mapping[str, Any]) -> dict[str, Any]:
    found = cell["evaluation"]
    return {
        "who": f"Line Monitor, {cell['mode']}",
        **{key: found[key] for key in ("image_auroc", "pixel_auroc", "pro")},
        "per_type": {
            kind: values["image_auroc"] for kind, values in found["per_type"].items() if kind != GOOD
        },
        "epochs": cell.get("epochs") or cell["settings"]["epochs"],
        "seconds": cell["train_seconds"],
        "settings": {**cell["settings"], "optimiser": cell["optimiser"], "images": cell["images"]},
        "versions": {"torch": cell["torch"]},
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; the last columns are the image AUROC of each type."""
    kinds = sorted({kind for row in rows for kind in row["per_type"]})
    cells = [["", "image AUROC", "pixel AUROC", "PRO", *kinds, "epochs", "training, s"]]
    for row in rows:
        values = [row["image_auroc"], row["pixel_auroc"], row["pro"]]
        shown = [f"{value:.3f}" for value in (*values, *(row["per_type"][kind] for kind in kinds))]
        cells.append([row["who"], *shown, str(row["epochs"]), f"{row['seconds']:.0f}"])
    return markdown(cells)


def report(theirs: Sequence[Mapping[str, Any]], ours: Mapping[str, Any] | None) -> None:
    print(table([*theirs, *([ours] if ours else [])]))
    print()
    for row in theirs:
        if ours:
            better = ours["image_auroc"] - row["image_auroc"]
            print(f"{ours['who']} less {row['who']}: image AUROC {better:+.3f}")
        settings = row["settings"]
        print(
            f"{row['who']}: {settings['optimiser']}, batch {settings['batch']}, seed {settings['seed']}, "
            f"{settings['threads']} threads; versions {row['versions']}\n"
            f"  {' '.join(settings['transform'].split())}\n"
            f"  best of its epochs, which only the test's answers tell: {row['best_image_auroc']:.3f} "
            f"(epoch {row['best_epoch']})"
        )
        if settings["early_stopping"]:
            print("  its early stopping watches the pixel AUROC of the test images, defective ones too")
    if ours:
        print(f"{ours['who']}: {ours['settings']}; versions {ours['versions']}")


def _ours(
    options: argparse.Namespace, settings: Settings, sha256: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Raises CellError, and what training and evaluation raise."""
    if options.skip_ours:
        cell = read(options.skip_ours)
        if cell is None:
            raise CellError(f"{options.skip_ours}: there is no such file")
        if cell["teacher_sha256"] != sha256:
            raise CellError(f"{options.skip_ours}: made with another teacher than --teacher-weights")
        if cell["settings"]["dataset"] != settings.dataset:
            say(f"{options.skip_ours}: measured on {cell['settings']['dataset']}, not on {settings.dataset}")
        return cell
    cell_of_ours = Cell("resnet18", Mode.DEFAULT)
    kept = read(options.out / f"{cell_of_ours.name}.json", settings)
    if kept is not None and kept["teacher_sha256"] == sha256:
        say("ours: kept from before")
        return kept
    return measure(
        cell_of_ours,
        settings,
        out=options.out,
        weights=options.teacher_weights,
        say=say,
        progress=choose_progress(sys.stderr),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="the data set with train/good, test, ..."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--anomalib-python",
        type=Path,
        required=True,
        metavar="PATH",
        help="the Python of Anomalib's environment",
    )
    parser.add_argument(
        "--teacher-weights", type=Path, required=True, metavar="FILE", help="of a ResNet-18 (.safetensors)"
    )
    parser.add_argument("--epochs", type=int, default=100, metavar="N", help="of Anomalib at most (100)")
    parser.add_argument("--size", type=int, metavar="PX", help="of both (each one's default: 256)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of both (0)")
    parser.add_argument(
        "--stopping", nargs="+", type=Stopping, choices=list(Stopping), default=[Stopping.EARLY]
    )
    ours = parser.add_mutually_exclusive_group()
    ours.add_argument("--skip-ours", type=Path, metavar="RESULT.json", help="a cell of the accuracy table")
    ours.add_argument("--only-anomalib", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args()
    if not (options.dataset / "train" / "good").is_dir():
        parser.error(f"{options.dataset}: no train/good there: --dataset is a category in MVTec AD's layout")
    dataset = options.dataset.resolve()
    settings = Settings(str(dataset), None, options.size or 256, options.seed, 0.01)
    options.out.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        teacher = find_teacher("resnet18", weights=options.teacher_weights, folder=options.out, say=say)
        theirs = []
        for stopping in options.stopping:
            request = {
                "dataset": str(dataset),
                "teacher_sha256": teacher.sha256,
                "epochs": options.epochs,
                "size": options.size,
                "seed": options.seed,
                "stopping": str(stopping),
            }
            answer = anomalib_side(
                options.anomalib_python, request, options.teacher_weights, options.out, say
            )
            maps = options.out / f"anomalib-{stopping}.npz"
            theirs.append(anomalib_row(answer, maps, dataset))
        mine = None if options.only_anomalib else our_row(_ours(options, settings, teacher.sha256, say))
    except (CellError, TrainingError, TeacherError, CalibrationError, RecipeError, EvaluationError) as error:
        print(f"beside_anomalib: {error}", file=sys.stderr)
        return 1
    report(theirs, mine)
    if options.json:
        write(options.json, {"anomalib": theirs, "line_monitor": mine})
    return 0


if __name__ == "__main__":
    sys.exit(main())
