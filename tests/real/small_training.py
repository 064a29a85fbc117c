"""A real training that takes a second, for the tests of its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from monitor.model.recipe_version import RecipeVersion
from monitor.system.progress import SILENT, Progress
from monitor.training.train_recipe import TrainingRequest, train_recipe
from tests.real.parts import teacher_file


def train(
    tmp_path: Path,
    folder: Path,
    say: Any = print,
    *,
    progress: Progress = SILENT,
    openvino: bool = False,
    **changes: Any,
) -> RecipeVersion:
    """The recipe `disc` from the images in `folder`; `changes` are fields of the `TrainingRequest`.

    Without `openvino` it is trained as on a machine that lacks it and bfloat16: compiling a model for
    OpenVINO, or making the pairs for first looks in bfloat16, takes longer than the training.
    """
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
    request = TrainingRequest(**fields)
    if openvino or request.int8:
        return train_recipe(request, say=say, progress=progress)
    with (
        patch("monitor.inference.backends.has_openvino", lambda: False),
        patch("monitor.training.first_look.has_native_bf16", lambda: False),
    ):
        return train_recipe(request, say=say, progress=progress)
