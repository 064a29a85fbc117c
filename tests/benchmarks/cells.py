"""One cell of an accuracy table: a recipe trained with one teacher in one mode, and its accuracy.

A finished cell is a JSON file, so that an interrupted table continues with the missing cells. A cell that was
made with other settings is refused and not overwritten.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from monitor.evaluation.evaluate import evaluate_recipe
from monitor.system.progress import Progress
from monitor.teachers.architectures import build_trunk
from monitor.training.train_recipe import TrainingRequest, train_recipe

RANDOM = "random"
"""An untrained ResNet-18: it shows the accuracy of the method without a teacher."""
_RANDOM_SEED = 20210304
"""This must not be a training seed: a student of the same architecture and seed would start equal to its
teacher."""


class Mode(StrEnum):
    DEFAULT = "default"
    AS_PAPER = "as-paper"


class CellError(Exception):
    """The cell can't be used or made. The message is one line with the fix."""


@dataclass(frozen=True)
class Settings:
    """The settings that a cell's figures depend on, apart from the program and the machine."""

    dataset: str
    """The absolute path of its folder."""
    epochs: int | None
    """None: as many as `train` chooses."""
    size: int
    """Pixels."""
    seed: int
    overkill: float
    """The overkill rate (good parts rejected) of the threshold."""


@dataclass(frozen=True)
class Cell:
    teacher: str
    """A teacher's name for `train`, or `random`."""
    mode: Mode

    @property
    def name(self) -> str:
        """The name of its recipe and its file."""
        return f"{self.teacher}-{self.mode}".replace("_", "-")

    def __str__(self) -> str:
        return f"{self.teacher}:{self.mode}"


def read(file: Path, settings: Settings | None = None) -> dict[str, Any] | None:
    """A finished cell, or None if it is missing. Raises CellError if it was made with other settings."""
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        made = Settings(**content["settings"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CellError(f"{file}: not a cell of this table ({error}): delete it") from None
    if settings is not None and made != settings:
        ours = asdict(settings)
        other = ", ".join(f"{key} {value}" for key, value in asdict(made).items() if value != ours[key])
        raise CellError(f"{file}: made with {other}: use another --out, or delete it")
    return content


def write(file: Path, content: dict[str, Any]) -> None:
    """Write the cell as one whole file."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.rename(file)


def random_teacher(folder: Path) -> Path:
    """The initial weights of a ResNet-18 trunk, always the same. Its batch normalisation keeps its initial
    statistics (mean 0, variance 1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        weights = {name: tensor.contiguous() for name, tensor in build_trunk("resnet18").state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".random.{os.getpid()}"
    safetensors.torch.save_file(weights, temporary)
    return temporary.rename(folder / "random.safetensors")


def measure(
    cell: Cell,
    settings: Settings,
    *,
    out: Path,
    weights: Path | None,
    say: Callable[[str], None],
    progress: Progress,
) -> dict[str, Any]:
    """Trains the cell's recipe in `out`/recipes on the data set's train/good, evaluates it on test, and keeps
    the figures in `out`/<name>.json. Raises what training and evaluation raise."""
    dataset = Path(settings.dataset)
    architecture = "resnet18" if cell.teacher == RANDOM else cell.teacher
    if cell.teacher == RANDOM:
        if settings.seed == _RANDOM_SEED:
            raise CellError(f"--seed {_RANDOM_SEED} belongs to the random teacher: use another one")
        weights = random_teacher(out)
    began = time.monotonic()
    recipe = train_recipe(
        TrainingRequest(
            name=cell.name,
            recipes=out / "recipes",
            images=dataset / "train" / "good",
            teacher=architecture,
            teacher_weights=weights,
            teachers=out / "teachers",
            size=settings.size,
            epochs=settings.epochs,
            overkill=settings.overkill,
            seed=settings.seed,
            as_paper=cell.mode is Mode.AS_PAPER,
        ),
        say=say,
        progress=progress,
    )
    trained = time.monotonic()
    evaluation = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=say, progress=progress)
    training = recipe.document.training
    assert training is not None  # it was trained just now
    content = {
        "teacher": cell.teacher,
        "mode": str(cell.mode),
        "settings": asdict(settings),
        "teacher_sha256": recipe.document.teacher.sha256,
        "optimiser": training.optimiser,
        "images": {"train": training.train, "select": training.select, "calibrate": training.calibrate},
        "best_epoch": training.best_epoch,
        "epochs": training.epochs,
        "torch": training.torch,
        "device": training.device,
        "train_seconds": round(trained - began, 1),
        "evaluate_seconds": round(time.monotonic() - trained, 1),
        "evaluation": evaluation.as_dict(),
    }
    write(out / f"{cell.name}.json", content)
    return content
