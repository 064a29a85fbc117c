"""A warning on the command line must be confirmed; a command's change is recorded before it is done."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from monitor.accounts import password as passwords
from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.accounts.signature import Signature
from monitor.audit.entry import Kind
from monitor.audit.trail import AuditError, AuditTrail
from monitor.commands.arguments import CommandError
from monitor.commands.signing import confirm, hold_version, recording
from monitor.model.in_force import find_in_force
from monitor.model.recipe_version import RecipeVersion
from monitor.settings import LineSettings, Settings
from tests.real.parts import random_recipe


def test_a_warning_is_printed_and_needs_its_option_where_there_are_accounts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("YES\n"))
    warnings = ("3 of 10 known defects would pass.",)
    signed = Signature("edda", "recipe calibrated", is_proven=True)
    confirm((), signed, understood=False)
    with pytest.raises(CommandError, match="repeat with --understood"):
        confirm(warnings, signed, understood=False)
    assert confirm(warnings, signed, understood=True).confirmed == warnings
    confirm(warnings, Signature("root", "recipe calibrated", is_proven=False), understood=False)
    assert capsys.readouterr().err == "WARNING: 3 of 10 known defects would pass.\n" * 3


def test_what_can_not_be_recorded_is_not_done(tmp_path: Path) -> None:
    settings = Settings(line=LineSettings(data=tmp_path))
    signature = Signature("edda", "recipe calibrated: new lamp", is_proven=True)
    done = []
    with recording(settings, Kind.THRESHOLD, "recipe.a.threshold", "0.5", "0.6", signature):
        done.append("first")
    trail = AuditTrail.of(settings)
    *_, entry = trail.entries()
    assert (entry.who, entry.via, entry.signed) == ("edda", "command line", True)
    assert entry.meaning == "recipe calibrated: new lamp"
    trail.file.unlink()
    trail.file.mkdir()
    with (
        pytest.raises(AuditError),
        recording(settings, Kind.THRESHOLD, "recipe.a.threshold", "0.6", "0.7", signature),
    ):
        done.append("second")
    assert done == ["first"]


def test_with_accounts_a_new_version_waits_for_a_promotion_also_before_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_METHOD", "scrypt:1024:8:1")
    settings = Settings(line=LineSettings(data=tmp_path))
    folder = tmp_path / "recipes/plate"
    hold_version(settings, folder)
    random_recipe(folder)

    def make_version() -> int:
        hold_version(settings, folder)
        newest = RecipeVersion.load(folder)
        return newest.with_changes(statement=newest.document.statement + ".").commit().number

    first = make_version()
    assert find_in_force(folder).number == first
    AccountsFile.of(settings).add("anna", Role.ADMIN, "gloves and all", "")
    assert make_version() > first
    assert find_in_force(folder).number == first
