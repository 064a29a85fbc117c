"""What a line's cameras ask of a recipe that judges their parts: one region of interest, a deadline.

It knows nothing of how a recipe is trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from monitor.model.recipe_json import Roi
from monitor.settings import CameraSettings
from monitor.training.loop import TrainingError


@dataclass(frozen=True, slots=True)
class CameraLimits:
    """None: no camera asks for it."""

    roi: Roi | None
    deadline_ms: int | None
    """The shortest."""


def find_camera_limits(recipe: str, cameras: Iterable[CameraSettings]) -> CameraLimits:
    """The limits of the cameras whose parts the recipe is to judge. Raises TrainingError where their regions
    differ."""
    cameras = list(cameras)
    regions = {camera.roi for camera in cameras}
    if len(regions) > 1:
        raise TrainingError(
            f"cameras of recipe {recipe!r} have different roi (regions of interest): train a recipe for each"
        )
    return CameraLimits(
        next(iter(regions), None), min((camera.deadline_ms for camera in cameras), default=None)
    )
