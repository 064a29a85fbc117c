"""One file says which version judges parts: a person signs for it, and a crash leaves the old or the new."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from monitor.errors import LineMonitorError
from monitor.model import in_force
from monitor.model.in_force import Approval, VersionChange
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from tests.real.crashes import run_until_crash
from tests.real.parts import random_recipe

ANNA = Approval(who="anna", utc="2026-11-30T07:00:00.000Z", meaning="approved for production")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first = random_recipe(tmp_path_factory.mktemp("recipes") / "plate")
    for statement in ("second", "third"):
        first.with_changes(statement=statement).commit()
    return first.folder


@pytest.fixture
def folder(tmp_path: Path, three: Path) -> Path:
    """Three versions with the same weights."""
    return shutil.copytree(three, tmp_path / "plate")


def number_in_force(folder: Path) -> int:
    found = in_force.find_in_force(folder)
    assert RecipeVersion.load(found.file).number == found.number
    return found.number


def test_without_a_promotion_the_newest_version_is_in_force(folder: Path) -> None:
    assert number_in_force(folder) == 3
    RecipeVersion.load(folder).with_changes(statement="fourth").commit()
    assert number_in_force(folder) == 4


def test_a_promoted_version_stays_in_force_whatever_is_trained_later(folder: Path) -> None:
    in_force.put_in_force(folder, 2, ANNA)
    RecipeVersion.load(folder).with_changes(statement="fourth").commit()
    assert number_in_force(folder) == 2
    assert in_force.find_asked(folder.parent, "plate@4").number == 4
    assert in_force.find_asked(folder.parent, "plate").number == 2


def test_a_version_that_is_held_stays_in_force_after_the_next_commit(folder: Path) -> None:
    in_force.hold_in_force(folder, ANNA.utc)
    RecipeVersion.load(folder).with_changes(statement="fourth").commit()
    in_force.hold_in_force(folder, ANNA.utc)
    assert number_in_force(folder) == 3
    change = in_force.put_in_force(folder, 3, ANNA)
    assert change.is_promotion, "nobody had signed for it"


def test_a_rollback_leads_back_step_by_step(folder: Path) -> None:
    for number in (1, 2, 3):
        in_force.put_in_force(folder, number, ANNA)
    found = []
    for _ in range(3):
        assert not in_force.roll_back(folder, ANNA).is_promotion or len(found) == 2
        found.append(number_in_force(folder))
    assert found == [2, 1, 3], "the newest was in force before the first promotion"
    with pytest.raises(RecipeError, match="no version was in force before"):
        in_force.roll_back(folder, ANNA)


def test_only_promoted_versions_can_be_chosen_by_others(folder: Path) -> None:
    def find(name: str, *, is_signed: bool = False) -> int:
        return in_force.find_promoted(folder.parent, name, is_signed=is_signed).number

    assert find("plate@1") == 1
    with pytest.raises(RecipeError, match="plate@1 is not promoted"):
        find("plate@1", is_signed=True)
    in_force.hold_in_force(folder, ANNA.utc)
    assert find("plate") == 3
    with pytest.raises(RecipeError, match="plate@3 is not promoted"):
        find("plate", is_signed=True)
    in_force.put_in_force(folder, 2, ANNA)
    assert find("plate@2") == find("plate@2", is_signed=True) == 2
    for is_signed in (False, True):
        with pytest.raises(RecipeError, match="plate@1 is not promoted"):
            find("plate@1", is_signed=is_signed)


def test_no_change_is_made_without_its_record(folder: Path) -> None:
    changes: list[VersionChange] = []

    def refuse(change: VersionChange) -> None:
        changes.append(change)
        raise LineMonitorError("the record can't be written")

    with pytest.raises(LineMonitorError, match="record"):
        in_force.put_in_force(folder, 1, ANNA, refuse)
    assert number_in_force(folder) == 3
    (change,) = changes
    assert change.before is not None
    assert (change.before.name, change.after.name) == ("plate@3", "plate@1")


def test_a_damaged_version_is_never_put_in_force(folder: Path) -> None:
    in_force.put_in_force(folder, 1, ANNA)
    next(folder.glob("student-*")).write_bytes(b"torn")
    with pytest.raises(RecipeError, match="damaged"):
        in_force.put_in_force(folder, 2, ANNA)
    assert in_force.find_in_force(folder).number == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}'])
def test_a_damaged_file_never_puts_the_newest_version_in_force(folder: Path, content: bytes) -> None:
    (folder / "in_force.json").write_bytes(content)
    with pytest.raises(RecipeError, match=r"which version is in force.*recipes use plate@VERSION") as refusal:
        in_force.find_in_force(folder)
    assert "\n" not in str(refusal.value)


def test_a_version_in_force_whose_document_is_gone_is_a_line(folder: Path) -> None:
    in_force.put_in_force(folder, 1, ANNA)
    in_force.find_in_force(folder).file.unlink()
    with pytest.raises(RecipeError, match="plate@1 is in force, but its document is gone"):
        in_force.find_in_force(folder)
    in_force.put_in_force(folder, 2, ANNA)
    assert number_in_force(folder) == 2


def test_a_crash_at_any_step_leaves_the_old_or_the_new_version_in_force(folder: Path) -> None:
    in_force.put_in_force(folder, 1, ANNA)
    seen = set()
    for _ in run_until_crash(
        lambda: in_force.put_in_force(folder, 2, ANNA), [(os, "fsync"), (Path, "replace")], most=20
    ):
        seen.add(in_force.find_in_force(folder).number)
    assert seen == {1, 2}
