"""Whether a recipe was trained on the region of interest that a camera is set to (`roi`).

It knows nothing of networks or scores. The scoring worker refuses a recipe of another region, and the command
`check` reports it.
"""

from __future__ import annotations

from monitor.model.recipe_json import Roi
from monitor.model.recipe_version import RecipeVersion
from monitor.settings import CameraSettings


def find_region_conflict(camera: CameraSettings, recipe: RecipeVersion, name: str) -> str | None:
    """Why the recipe can't judge the camera's parts, in one line with the fix; None when it can.

    A recipe that records no region is accepted: its images may have been cut before training.
    """
    trained = recipe.roi
    if trained is None or tuple(trained) == camera.roi:
        return None
    has = f"roi {list(camera.roi)}" if camera.roi else "no roi"
    return (
        f"camera {camera.name!r} has {has}, but recipe {name!r} was trained on roi {list(trained)}: "
        "set that roi, or train a recipe for this one"
    )


def unchecked_region(camera: CameraSettings, recipe: RecipeVersion) -> Roi | None:
    """The camera's region if the recipe records none, so that the two can't be compared; otherwise None."""
    return camera.roi if recipe.roi is None else None
