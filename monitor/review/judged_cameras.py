"""Which cameras a promoted version judges, and what a person does where it judges none. Pure rules.

It knows nothing of HTTP or of the board: the versions that judge now are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.line_state.changeover import RecipeIdentity
from monitor.model.version_files import VersionFile
from monitor.names import join_version

Judges = Mapping[str, RecipeIdentity]
"""By camera, the version that judges its parts now. A camera without one is left out."""


@dataclass(frozen=True, slots=True)
class VersionUse:
    """Whether a version judges parts now."""

    is_judging: bool
    text: str
    """Who judges, and the next step where it is not this version."""


def find_use(version: VersionFile, judges: Judges, configured: Mapping[str, str]) -> VersionUse:
    """The use of a promoted version. `configured` has the recipe that the settings give to each of the
    cameras in question."""
    own = [camera for camera, judge in judges.items() if judge.sha.startswith(version.digits)]
    if own:
        return VersionUse(True, f"It judges the parts of camera {' and '.join(own)}.")
    recipe = version.folder.name
    by = [
        f"Camera {camera} is judged by {join_version(judge.recipe, judge.version)}."
        for camera, judge in judges.items()
    ]
    if any(judge.recipe == recipe for judge in judges.values()):
        by.append("A camera takes it from its next part on, unless a changeover named another version.")
    elif not judges and recipe in configured.values():
        cameras = " and ".join(camera for camera, name in configured.items() if name == recipe)
        by.append(f"No part is judged now. It judges the parts of camera {cameras} once the line inspects.")
    else:
        by.append(
            f"To use it, change a camera over to recipe {recipe}: the gateway or an operator sends the "
            "recipe's name to the camera's topic recipe/set, or the settings name it as the camera's recipe "
            "and the service starts again."
        )
    return VersionUse(False, " ".join(by))
