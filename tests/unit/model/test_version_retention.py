"""The settings bound removes the oldest versions, and never one that a person has signed for."""

from __future__ import annotations

from pathlib import Path

from monitor.model.in_force import Approval, put_in_force
from monitor.model.recipe_version import RecipeVersion
from monitor.model.version_files import list_versions
from monitor.model.version_retention import remove_old_versions
from tests.real.parts import random_recipe

ANNA = Approval(who="anna", utc="2026-11-30T07:00:00.000Z", meaning="approved for production")


def test_the_oldest_go_but_never_promoted_ones_and_weights_go_with_their_last_version(tmp_path: Path) -> None:
    folder = random_recipe(tmp_path / "plate").folder
    other = random_recipe(folder, seed=5)
    for statement in ("third", "fourth", "fifth"):
        other.with_changes(statement=statement).commit()
    put_in_force(folder, 2, ANNA)
    put_in_force(folder, 4, ANNA)
    assert remove_old_versions(folder, 5) == []
    assert [version.number for version in remove_old_versions(folder, 1)] == [1, 3]
    assert [version.number for version in list_versions(folder)] == [2, 4, 5]
    assert len(list(folder.glob("*.safetensors"))) == 2
    assert all(RecipeVersion.load(version.file) for version in list_versions(folder))
