"""A version that is taught from the page is recorded, and judges nothing before a person puts it in force."""

from __future__ import annotations

from pathlib import Path

from monitor.audit.trail import AuditTrail
from monitor.model.in_force import find_in_force
from monitor.settings import LineSettings, Settings
from monitor.teaching.recorded_training import record_training
from tests.real.parts import random_recipe


def test_a_taught_version_is_recorded_and_waits(tmp_path: Path) -> None:
    settings = Settings(line=LineSettings(data=tmp_path))
    first = random_recipe(tmp_path / "recipes/plate")
    with record_training(settings, first.with_changes(statement="second"), "edda", "page, teaching"):
        made = first.with_changes(statement="second").commit()
    assert made.number == 2
    assert find_in_force(first.folder).number == 1
    entry = list(AuditTrail.of(settings).entries())[-1]
    assert (entry.kind, entry.who, entry.subject) == ("training", "edda", "recipe.plate")
    assert entry.after is not None
    assert "threshold" in entry.after
