"""Every page says of a version that judges without a signature, or that is taught and does not judge yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.line_state.changeover import ChangeoverState, RecipeIdentity, RecipeStatus
from monitor.model.in_force import Approval, hold_in_force, put_in_force
from monitor.model.recipe_version import RecipeVersion
from monitor.review.line_view import LineView
from monitor.review.version_notices import find_notices
from monitor.settings import Settings
from tests.real.parts import draft_recipe

ANNA = Approval(who="anna", utc="2026-11-30T07:00:00.000Z", meaning="approved for production", is_proven=True)


@dataclass
class View:
    """In place of a LineView: the camera's parts are judged by that version."""

    judge: RecipeVersion | None

    def recipe_name(self, camera: object) -> str:
        return "disc"

    def recipe_status(self, camera: str) -> RecipeStatus:
        present = RecipeIdentity("disc", self.judge.sha, self.judge.number) if self.judge else None
        state = ChangeoverState.IN_FORCE if present else ChangeoverState.REFUSED
        return RecipeStatus(0, None, state, "disc", None, present, ())


def texts(settings: Settings, judge: RecipeVersion | None) -> list[str]:
    return [
        notice.text
        for notice in find_notices(settings.line.data / "recipes", settings, cast(LineView, View(judge)))
    ]


def line(folder: Path) -> Settings:
    camera = {"name": "top", "source": "simulated://plate", "recipe": "disc"}
    return Settings(line={"data": folder}, camera=(camera,))  # type: ignore[arg-type]


def test_a_version_that_judges_without_a_signature_is_told_once_there_are_accounts(tmp_path: Path) -> None:
    settings = line(tmp_path)
    first = draft_recipe(tmp_path / "recipes/disc").commit()
    assert texts(settings, first) == []
    AccountsFile.of(settings).add("anna", Role.ADMIN, "gloves and all", "")
    assert texts(settings, first) == ["disc@1 judges camera top, and nobody has signed for it."]
    put_in_force(first.folder, 1, ANNA)
    assert texts(settings, first) == []


def test_a_recipe_has_one_notice_and_that_of_a_version_on_its_way_comes_first(tmp_path: Path) -> None:
    settings = line(tmp_path)
    first = draft_recipe(tmp_path / "recipes/disc").commit()
    put_in_force(first.folder, 1, ANNA)
    first.with_changes(statement="second").commit()
    first.with_changes(statement="third").commit()
    assert texts(settings, first) == [
        "disc@3 is accepted, but not in force: disc@1 judges until somebody promotes it."
    ]
    put_in_force(first.folder, 2, ANNA)
    assert texts(settings, first) == ["disc@2 is being loaded; until then disc@1 judges top."]


def test_a_taught_version_that_judges_nothing_yet_is_told_with_what_is_missing(tmp_path: Path) -> None:
    settings = line(tmp_path)
    first = draft_recipe(tmp_path / "recipes/disc").commit()
    waits = (
        "disc@1 is taught, but does not judge camera top yet: it does once somebody puts it in force, at the "
        "latest from the next start of the line on."
    )
    assert texts(settings, None) == [waits]
    hold_in_force(first.folder, ANNA.utc)
    assert texts(settings, None) == [waits]
    put_in_force(first.folder, 1, ANNA)
    assert texts(settings, None) == []
