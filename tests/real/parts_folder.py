"""Images of known good and bad parts, and a recipe that separates them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers import simulated
from monitor.system.progress import Silent
from monitor.training.calibrate_recipe import calibrate_with_recorded_scores
from monitor.training.operating_points import state
from monitor.training.train_recipe import TrainingRequest, train_recipe

SCENE, SIZE = "plate", 64
_OVERKILL = 0.0001
"""For the recipe's threshold, an estimate above all good parts: the defects are ten times over any threshold,
and no good part may come near it."""


@lru_cache(maxsize=512)
def good(index: int) -> NDArray[np.uint8]:
    """A good part. The same image serves all tests of a process, so none can write into it."""
    image = simulated.render(SCENE, 500, index, 0.0)
    image.flags.writeable = False
    return image


def bad(index: int) -> NDArray[np.uint8]:
    """A part with a large defect, so that tests of the line do not depend on the accuracy of the recipe."""
    image = good(index).copy()
    height, width = image.shape[:2]
    cv2.circle(image, (width // 2, height // 2), width // 6, (20, 20, 220), -1)
    return image


def write_parts(folder: Path, count: int, bad_every: int) -> dict[int, bool]:
    """Writes parts in name order, one in `bad_every` of them bad; returns by index whether it is bad."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for index in range(count):
        truth[index] = bad_every > 0 and index % bad_every == bad_every - 1
        image = bad(index) if truth[index] else good(index)
        cv2.imwrite(str(folder / f"{index:04d}.png"), image)
    return truth


def train(recipes: Path, images: Path, name: str = "plate") -> Path:
    """A small recipe from good parts, in a few seconds."""
    images.mkdir(parents=True, exist_ok=True)
    for index in range(105):
        cv2.imwrite(str(images / f"{index:04d}.png"), good(1000 + index))
    trained = train_recipe(
        TrainingRequest(
            name=name,
            recipes=recipes,
            images=images,
            teacher="resnet18-bundled",
            teacher_weights=None,
            teachers=recipes.parent / "teachers",
            size=SIZE,
            epochs=12,
            overkill=_OVERKILL,
        ),
        say=print,
        progress=Silent(),
    )
    state(calibrate_with_recorded_scores(trained, _OVERKILL, extrapolate=True)).commit()
    return recipes / name
