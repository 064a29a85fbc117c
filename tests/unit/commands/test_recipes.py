"""What a command says of a version that a running line is to use: also while the scoring worker is late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.commands.judging_versions import explain_judges
from monitor.commands.recipes import await_line, await_set, describe_version
from monitor.line_state.changeover import ChangeoverState, RecipeIdentity, RecipeStatus
from monitor.line_state.recipe_set import SetDocument
from monitor.model.in_force import Approval, VersionChange
from monitor.model.version_files import VersionFile
from monitor.model.version_summary import VersionSummary
from monitor.settings import CameraSettings, Settings

SHAS = {1: "1" * 64, 2: "2" * 64}
VERSIONS = [VersionFile(number, Path(f"plate/versions/{number}.json"), SHAS[number][:16]) for number in SHAS]
CHANGE = VersionChange(VERSIONS[0], VERSIONS[1], Approval(who="anna", utc="", meaning=""), is_promotion=True)
SET = SetDocument(
    name="plates", recipes={"top": "plate@2"}, instead_of={}, request_id="set-1", who="anna", utc=""
)
SETTINGS = Settings(camera=(CameraSettings(name="top", source="simulated://plate", recipe="plate"),))


class View:
    """A line that shows one status after another; None while its scoring worker is late."""

    def __init__(self, *statuses: RecipeStatus | None, is_running: bool = True) -> None:
        self._statuses: Iterator[RecipeStatus | None] = iter(statuses)
        self._is_running = is_running

    def is_running(self) -> bool:
        return self._is_running

    def recipe_status(self, camera: str) -> RecipeStatus | None:
        return next(self._statuses, None)


def status(version: int, recipe: str = "plate", **more: Any) -> RecipeStatus:
    judge = RecipeIdentity(recipe, SHAS[version], version)
    fields = {"request_id": "set-1", "state": ChangeoverState.IN_FORCE, "reason": None, **more}
    return RecipeStatus(number=0, recipe=f"plate@{version}", in_force=judge, **fields)


def wait(which: Any, view: Any, *arguments: Any) -> tuple[int, list[str]]:
    """The exit code and what was said, by a clock that moves only with the waiting."""
    said: list[str] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return which(*arguments, view, said.append, lambda: now[0], sleep), said


@pytest.mark.parametrize(
    ("view", "code", "words"),
    [
        (View(status(1), None, status(2)), 0, ["plate@2 judges from the next part on"]),
        (View(None, status(2)), 0, ["plate@2 judges from the next part on"]),
        (View(status(1)), 1, ["has not taken plate@2 over yet"]),
        (View(status(1, is_pinned=True)), 0, ["stays on plate@1"]),
        (View(status(1, "other")), 0, []),
        (View(is_running=False), 0, []),
    ],
)
def test_a_running_line_always_has_an_answer_to_a_version(view: View, code: int, words: list[str]) -> None:
    found, said = wait(await_line, view, CHANGE, SETTINGS)
    assert found == code
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))


def test_the_newest_version_and_the_one_that_judges_are_told_apart() -> None:
    judges = {"top": RecipeIdentity("plate", SHAS[1], 1), "side": RecipeIdentity("other", SHAS[1], 1)}
    lines = [
        describe_version(VersionSummary(version, None, "", "", version.number == 2, None), judges)
        for version in VERSIONS
    ]
    assert lines[0].endswith("not promoted  judges camera top now")
    assert lines[1].endswith("newest: taken by a line that starts")
    told = list(explain_judges(judges, "plate", 2, SHAS[2], is_taken_at_start=True))
    assert told == [
        "the running line judges camera top with plate@1 until somebody puts plate@2 in force: "
        "`line-monitor recipes use plate@2`, or until the line starts again"
    ]
    assert not list(explain_judges(judges, "plate", 1, SHAS[1], is_taken_at_start=True))


@pytest.mark.parametrize(
    ("view", "code", "words"),
    [
        (View(None, status(2)), 0, "plate@2 judges from the next part on"),
        (View(), 1, "the line has not answered yet"),
        (View(is_running=False), 0, "plate@2 judges from the next start of the line on"),
    ],
)
def test_only_a_line_that_does_not_run_waits_for_its_next_start(view: View, code: int, words: str) -> None:
    found, said = wait(await_set, view, SET)
    assert (found, len(said)) == (code, 1)
    assert words in said[0]
