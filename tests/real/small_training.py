"""A real training that takes a second, for tests of what comes of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monitor.model.recipe_version import RecipeVersion
from monitor.training.train_recipe import train_recipe
from tests.real.parts import teacher_file


def train(tmp_path: Path, folder: Path, say: Any = print, **changes: Any) -> RecipeVersion:
    """The recipe `disc` from the images in `folder`; `changes` are arguments of `train_recipe`."""
    wish: dict[str, Any] = {
        "name": "disc",
        "recipes": tmp_path / "recipes",
        "images": folder,
        "teacher": "squeezenet1_1",
        "teacher_weights": None,
        "teachers": teacher_file(tmp_path / "teachers").parent,
        "size": 64,
        "epochs": 3,
        "device": "cpu",
        "say": say,
        **changes,
    }
    return train_recipe(**wish)
