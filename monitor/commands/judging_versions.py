"""Which version of a recipe a running line judges with, in words.

It knows nothing of how a version is put in force. A line that runs goes on with its version until another one
is put in force, also where a newer one is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from monitor.line_state.changeover import RecipeIdentity
from monitor.names import join_version


def describe_cameras(judges: Mapping[str, RecipeIdentity], recipe: str, digits: str) -> str:
    """The cameras that a running line judges with the version of that recipe whose sha256 begins with
    `digits`; empty where there is none."""
    cameras = [
        camera for camera, judge in judges.items() if judge.recipe == recipe and judge.sha.startswith(digits)
    ]
    return f"judges {_name(cameras)} now" if cameras else ""


def explain_judges(
    judges: Mapping[str, RecipeIdentity], recipe: str, number: int, sha: str, *, is_taken_at_start: bool
) -> Iterator[str]:
    """A line for each other version that judges while this one is made. `is_taken_at_start`: a line that
    starts takes this one."""
    others: dict[int | None, list[str]] = {}
    for camera, judge in judges.items():
        if judge.recipe == recipe and judge.sha != sha:
            others.setdefault(judge.version, []).append(camera)
    made = join_version(recipe, number)
    for version, cameras in others.items():
        until = ", or until the line starts again" if is_taken_at_start else ""
        yield (
            f"the running line judges {_name(cameras)} with {join_version(recipe, version)} until somebody "
            f"puts {made} in force: `line-monitor recipes use {made}`{until}"
        )


def _name(cameras: list[str]) -> str:
    return f"camera{'s' if len(cameras) > 1 else ''} {', '.join(cameras)}"
