"""`check` repeats what each recipe in force lets pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.commands.check import Level, _review, _unsigned, _weak_guarantee, _what_passes
from monitor.model.in_force import Approval, find_in_force, put_in_force
from monitor.model.recipe_json import Calibration
from monitor.review.access import hash_password
from monitor.settings import ReviewSettings, Settings
from monitor.training.thresholds import make_calibration
from tests.real.parts import draft_recipe
from tests.unit.training.test_operating_points import GOOD, document


@pytest.mark.parametrize(("passing", "level"), [(0, Level.OK), (5, Level.OK), (6, Level.WARN)])
def test_more_than_half_of_the_known_defects_passing_is_a_warning(
    tmp_path: Path, passing: int, level: Level
) -> None:
    stated = document(tmp_path, make_calibration(GOOD, 0.01), [0.1] * passing + [2.0] * (10 - passing))
    found = _what_passes("disc", stated)
    assert (found.level, found.item) == (level, "recipe disc")
    assert found.text.startswith(stated.statement)
    assert ("what helps most" in found.text) is (level is Level.WARN)


def test_what_nobody_knows_is_a_warning_that_is_said_once(tmp_path: Path) -> None:
    found = _what_passes("disc", document(tmp_path, make_calibration(GOOD, 0.01)))
    assert found.level is Level.WARN
    assert found.text.count("--defects DIR") == 1


@pytest.mark.parametrize(("threshold", "keeps"), [(0.5, True), (0.4, False)])
def test_a_recipe_of_an_earlier_version_is_told_how_to_state_what_passes(
    tmp_path: Path, threshold: float, keeps: bool
) -> None:
    old = Calibration(threshold=threshold, overkill=0.01, guaranteed=False, scores=(0.3, 0.4))
    recipe = draft_recipe(tmp_path / "disc").with_calibration({"torch-f32": old})
    found = _what_passes("disc", recipe.document)
    assert found.level is Level.WARN
    assert "line-monitor calibrate disc --overkill 0.01" in found.text
    assert ("--extrapolate" in found.text) is keeps, "the command that is told keeps the threshold"


def test_what_a_threshold_guarantees_is_told_with_what_it_needs() -> None:
    few = _weak_guarantee("disc", make_calibration(GOOD[:60], 0.01))
    assert "its threshold from 60 good images guarantees at most 1.7 %: 99 are needed" in few
    of_parts = _weak_guarantee("disc", make_calibration(GOOD[:60], 0.01, parts=[n // 2 for n in range(60)]))
    assert "from 30 good parts guarantees at most 3.3 %" in of_parts
    estimate = _weak_guarantee("disc", make_calibration(GOOD[:60], 0.01, extrapolate=True))
    assert "an estimate from 60 good images: 99 are needed" in estimate


@pytest.mark.parametrize(("password", "level"), [(None, Level.WARN), ("gloves and all", Level.OK)])
def test_a_page_that_a_proxy_serves_is_told_with_its_address_and_warned_of_without_a_password(
    password: str | None, level: Level
) -> None:
    hashed = SecretStr(hash_password(password)) if password else None
    review = ReviewSettings(public_url="https://line-pc.example", password_hash=hashed)
    (found,) = _review(Settings(review=review), running=False)
    assert found.level is level
    assert "as https://line-pc.example" in found.text
    assert ("set review.password_hash" in found.text) is (level is Level.WARN)


def test_with_accounts_a_recipe_that_nobody_signed_is_a_warning_with_the_command(tmp_path: Path) -> None:
    settings = Settings(line={"data": tmp_path})  # type: ignore[arg-type]
    draft_recipe(tmp_path / "recipes/disc").commit()
    version = find_in_force(tmp_path / "recipes/disc")
    accounts = AccountsFile.of(settings)
    assert list(_unsigned(version, settings)) == []
    accounts.add("anna", Role.ADMIN, "gloves and all", "")
    (found,) = _unsigned(version, settings)
    assert found.level is Level.WARN
    assert "`line-monitor recipes use disc@1`" in found.text
    approval = Approval(who="anna", utc="", meaning="", is_proven=True)
    put_in_force(version.folder, 1, approval)
    assert list(_unsigned(version, settings)) == []
    accounts.file.write_bytes(b"torn")
    (found,) = _unsigned(version, settings)
    assert found.level is Level.FAIL
