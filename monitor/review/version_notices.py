"""What every page says about versions: one that waits for its promotion, one that the line does not use, one
that judges although nobody has signed for it.

It knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.accounts.accounts_file import AccountsFile
from monitor.line_state.changeover import ChangeoverState
from monitor.model.in_force import find_in_force, find_judging, find_waiting, is_promoted, read_in_force
from monitor.model.recipe_json import RecipeError
from monitor.model.version_files import find_newest
from monitor.names import join_version
from monitor.review.line_view import LineView
from monitor.settings import CameraSettings, Settings


@dataclass(frozen=True, slots=True)
class VersionNotice:
    """One sentence about a recipe."""

    text: str
    is_bad: bool
    """Whether the line does not do what a person has signed for."""
    is_waiting: bool = False
    """Whether it is only about a version that nobody has promoted yet."""


def find_notices(recipes: Path, settings: Settings, view: LineView) -> list[VersionNotice]:
    """The notices about the recipes that judge this line's parts: the most urgent ones of each recipe, each
    once."""
    found: dict[str, dict[VersionNotice, None]] = {}
    has_accounts = AccountsFile.of(settings).exist()
    for camera in settings.camera:
        name = view.recipe_name(camera)
        own = found.setdefault(name, {})
        try:
            own.update(dict.fromkeys(_notices(recipes / name, camera, view)))
            if has_accounts:
                own.update(dict.fromkeys(_unsigned(recipes, camera, view)))
        except RecipeError as error:
            own[VersionNotice(f"{error}.", True)] = None
    return [notice for own in found.values() for notice in _choose(list(own))]


def _choose(notices: Sequence[VersionNotice]) -> list[VersionNotice]:
    """Of one recipe's notices those that are bad; else those about a version that is on its way to the line;
    else the rest."""
    for is_first in (lambda one: one.is_bad, lambda one: not one.is_waiting):
        if first := [one for one in notices if is_first(one)]:
            return first
    return list(notices)


def _notices(folder: Path, camera: CameraSettings, view: LineView) -> Iterator[VersionNotice]:
    """Raises RecipeError."""
    newest = find_newest(folder)
    if newest is None:
        return
    document, present, status = read_in_force(folder), find_in_force(folder), view.recipe_status(camera.name)
    if waiting := find_waiting(folder):
        yield VersionNotice(
            f"{waiting.name} is accepted, but not in force: {present.name} judges until somebody promotes "
            "it.",
            False,
            is_waiting=True,
        )
    judge = status.in_force if status else None
    if status is not None and judge is None and not (document and document.approval.is_signed):
        yield VersionNotice(
            f"{present.name} is taught, but does not judge camera {camera.name} yet: it does once somebody "
            "puts it in force, at the latest from the next start of the line on.",
            False,
        )
    if judge is None or status is None or status.is_pinned or judge.sha.startswith(present.digits):
        return
    name = join_version(judge.recipe, judge.version)
    if document is None:
        yield VersionNotice(
            f"{newest.name} judges from the next start of the line on; now {name} judges camera "
            f"{camera.name}.",
            False,
        )
    elif status.state is ChangeoverState.REFUSED and status.recipe == present.name:
        yield VersionNotice(
            f"{present.name} is to be in force, but the line can't use it, and {name} judges camera "
            f"{camera.name}: {status.reason}.",
            True,
        )
    else:
        yield VersionNotice(f"{present.name} is being loaded; until then {name} judges {camera.name}.", False)


def _unsigned(recipes: Path, camera: CameraSettings, view: LineView) -> Iterator[VersionNotice]:
    """Raises RecipeError."""
    status = view.recipe_status(camera.name)
    if status is None or (judge := status.in_force) is None:
        return
    if not is_promoted(find_judging(recipes / judge.recipe, judge.sha)):
        yield VersionNotice(
            f"{join_version(judge.recipe, judge.version)} judges camera {camera.name}, and nobody has signed "
            "for it.",
            True,
        )
