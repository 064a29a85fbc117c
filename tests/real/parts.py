"""Small recipes and images of parts for tests, made in about 2 s."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.torch
import torch

from drivers.image_file import Image
from monitor.images.preprocessing import RESIZE, TILED_RESIZE, Size
from monitor.model.recipe_json import Calibration, Document, TeacherEntry, Tiles
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.model.weights import Weights, fingerprint
from monitor.teachers.architectures import LEVELS, build_trunk, trunk_weights


def random_weights(architecture: str, seed: int) -> Weights:
    """A trunk whose batch statistics differ from the initial ones."""
    return {name: array.copy() for name, array in _shared_weights(architecture, seed).items()}


@lru_cache(maxsize=4)
def _shared_weights(architecture: str, seed: int) -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = build_trunk(architecture)
        for name, buffer in trunk.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
        return trunk_weights(trunk)


def teacher_file(folder: Path, architecture: str = "squeezenet1_1") -> Path:
    """A recipe with random weights, which can run but does not find defects."""
    file = folder / f"{architecture}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    arrays = random_weights(architecture, seed=7)
    safetensors.torch.save_file({name: torch.from_numpy(a.copy()) for name, a in arrays.items()}, file)
    return file


def random_recipe(folder: Path, architecture: str = "squeezenet1_1", **wish: Any) -> RecipeVersion:
    """An untrained recipe, committed in `folder`; `wish` is as in `draft_recipe`."""
    return draft_recipe(folder, architecture, **wish).commit()


def draft_recipe(
    folder: Path,
    architecture: str = "squeezenet1_1",
    size: int | Size = 64,
    seed: int = 0,
    tiles: Tiles | None = None,
) -> RecipeVersion:
    """An untrained recipe that is not committed."""
    teacher, student = random_weights(architecture, seed), random_weights(architecture, seed + 1)
    document = Document(
        name=folder.name,
        teacher=TeacherEntry(
            name=architecture,
            architecture=architecture,
            sha256=fingerprint(teacher),
            weights=weights_file("teacher", teacher),
        ),
        student=weights_file("student", student),
        levels=LEVELS[architecture],
        size=size,
        tiles=tiles,
        resize=RESIZE if tiles is None else TILED_RESIZE,
        calibration={
            "torch-f32": Calibration(threshold=0.5, overkill=0.01, guaranteed=False, scores=(0.3, 0.4))
        },
    )
    return RecipeVersion(folder.absolute(), document, "", teacher, student)


def part(seed: int, *, side: int = 80, defect: bool = False) -> Image:
    """A grey disc on a dark belt, slightly different for each seed. A defect is a bright scratch."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), 40, np.uint8)
    centre = (side // 2 + int(rng.integers(-2, 3)), side // 2 + int(rng.integers(-2, 3)))
    cv2.circle(image, centre, side // 3, (150, 150, 150), -1)
    if defect:
        cv2.line(image, (centre[0] - 10, centre[1] - 8), (centre[0] + 9, centre[1] + 7), (250, 250, 250), 3)
    noisy = image.astype(np.int16) + rng.integers(-6, 7, image.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def save(file: Path, image: Image) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(cv2.imencode(file.suffix, image)[1].tobytes())
    return file


def good_parts(folder: Path, count: int, first: int = 0) -> Path:
    for number in range(first, first + count):
        save(folder / f"{number:03d}.png", part(number))
    return folder


def empty_place(seed: int, *, side: int = 80) -> Image:
    """The belt of `part` without a part."""
    rng = np.random.default_rng((seed, 1))
    return np.asarray(np.clip(40 + rng.integers(-6, 7, (side, side, 3)), 0, 255), np.uint8)


def empty_pictures(folder: Path, count: int) -> Path:
    for number in range(count):
        save(folder / f"{number:03d}.png", empty_place(number))
    return folder
