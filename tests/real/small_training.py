"""A real training that takes a second, for the tests of its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monitor.model.recipe_version import RecipeVersion
from monitor.system.progress import SILENT, Progress
from monitor.training.train_recipe import TrainingRequest, train_recipe
from tests.real.parts import teacher_file


def train(
    tmp_path: Path, folder: Path, say: Any = print, *, progress: Progress = SILENT, **changes: Any
) -> RecipeVersion:
    """The recipe `disc` from the images in `folder`; `changes` are fields of the `TrainingRequest`."""
    fields: dict[str, Any] = {
        "name": "disc",
        "recipes": tmp_path / "recipes",
        "images": folder,
        "teacher": "squeezenet1_1",
        "teacher_weights": None,
        "teachers": teacher_file(tmp_path / "teachers").parent,
        "size": 64,
        "epochs": 3,
        "device": "cpu",
        **changes,
    }
    return train_recipe(TrainingRequest(**fields), say=say, progress=progress)
