"""A report says what a version states and who signed, and a file that was altered since is told."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.journal.tallies import CameraTally
from monitor.model.in_force import Approval, put_in_force
from monitor.model.recipe_json import REFERENCE, RecipeError
from monitor.review.filters import Filters
from monitor.review.printed_page import render_page
from monitor.review.recipe_report import RecipeReports
from monitor.review.shift_figures import ShiftFigures
from monitor.review.shift_report import ShiftReports, read_snapshots
from monitor.review.shifts import PlantClock
from monitor.settings import LineSettings, Settings
from monitor.training.thresholds import make_calibration
from tests.real.parts import random_recipe
from tests.real.snapshot_set import write_snapshot

PLANT = PlantClock("Europe/Berlin", ("06:00", "14:00"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    draft = random_recipe(tmp_path / "recipes/plate")
    scores = [0.01 + 0.001 * n for n in range(120)]
    draft.with_calibration({REFERENCE: make_calibration(scores, 0.1)}).commit()
    return Settings(line=LineSettings(data=tmp_path))


def report(settings: Settings, name: str = "plate") -> str:
    page = RecipeReports(settings, read_snapshots(settings), PLANT).make(name, time.time_ns())
    return re.sub(r"\s+", " ", page)


def test_a_report_names_version_guarantee_and_signature_and_loads_nothing(settings: Settings) -> None:
    before = report(settings)
    assert "Nobody has signed for this version." in before
    assert "At most <b>10 %</b> of good parts are rejected" in before
    approval = Approval(who="anna", utc="2026-11-24T05:00:00.000Z", meaning="approved for production")
    put_in_force(settings.line.data / "recipes/plate", 2, approval)
    after = report(settings, "plate@2")
    assert (
        "Approved by <b>anna (without a password)</b>, 2026-11-24 06:00:00 CET: “approved for production”"
        in after
    )
    assert "This version is in force." in after
    for loaded in re.findall(r'(?:src|href)="([^"]*)"', after):
        assert loaded.startswith("data:image/")
    assert "<script" not in after
    proven = Approval(who="quinn", utc=approval.utc, meaning=approval.meaning, is_proven=True)
    put_in_force(settings.line.data / "recipes/plate", 1, proven)
    assert "Approved by <b>quinn</b>," in report(settings)
    with pytest.raises(RecipeError, match="no plate@3"):
        report(settings, "plate@3")


def test_an_altered_file_is_told(settings: Settings) -> None:
    assert "NO:" not in report(settings)
    (weights,) = (settings.line.data / "recipes/plate").glob("student-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert f"<td>{weights.name}</td>" in report(settings)
    assert "NO:" in report(settings)


def test_a_report_says_that_no_defect_was_tested_and_names_no_command_for_it(settings: Settings) -> None:
    shown = report(settings)
    assert "Tested with known defects: none. How many real defects pass is not known." in shown
    assert "calibrate plate" not in shown
    assert "Drawn defects" not in shown


def test_the_share_of_rejects_is_that_of_the_judged_parts(settings: Settings) -> None:
    tally = CameraTally("top", passed=327, rejected=5, uninspected={"deadline": 3877})
    page = render_page(
        "tally_table.html",
        figures=ShiftFigures(tallies=(tally,)),
        views=frozenset(),
        plant=PLANT,
    )
    assert "1.51 %<br><small>of 332</small>" in page


def test_a_shift_report_lists_each_change_once(settings: Settings) -> None:
    def record(kind: Kind, subject: str, after: str, via: str) -> None:
        change = Change(kind, "quinn", subject, None, after, "", "2026-11-24T05:30:00.000Z", via=via)
        AuditTrail.of(settings).append(change)

    record(Kind.PROMOTION, "recipe.plate.in_force", "plate@2, sha256 12", "page")
    record(Kind.CHANGEOVER, "camera.top.recipe_in_force", "plate@2", "service")
    record(Kind.IN_FORCE, "recipe.plate.threshold", "1.5", "service")
    record(Kind.SETTING, "mqtt.port", "1884", "service")
    reports = ShiftReports(settings, read_snapshots(settings), PLANT)
    page = reports.make(Filters(day="2026-11-24", shift="06:00").within(PLANT), time.time_ns())
    changed, _, rest = page.partition("What was changed")[2].partition("Settings that were set or changed")
    assert changed.count("<td>quinn</td>") == 1
    assert "Camera top judges by it since 2026-11-24 06:30:00 CET." in changed
    assert "mqtt.port" in rest
    assert "(journal)" not in page


def test_a_shift_report_shows_what_lies_in_the_shift(settings: Settings) -> None:
    for minute in (30, 31):
        moment = datetime(2026, 11, 24, 5, minute, tzinfo=UTC)
        write_snapshot(settings.line.data / "snapshots", moment, minute)
    reports = ShiftReports(settings, read_snapshots(settings), PLANT)
    early, late = (
        reports.make(Filters(day="2026-11-24", shift=shift).within(PLANT), time.time_ns())
        for shift in PLANT.shifts
    )
    assert "From 2026-11-24 06:00:00 CET to 2026-11-24 14:00:00 CET" in early
    assert "2 have an image" in early
    assert "0 have an image" in late
    assert "There are no counts" in early


def test_reports_show_the_challenges_of_the_version_and_of_the_shift(settings: Settings) -> None:
    def record(version: str, outcome: str, utc: str) -> None:
        meaning = f"top {version}; scratch-1 reject, right"
        change = Change(Kind.CHALLENGE, "otto", "challenge", "due", outcome, meaning, utc, via="page")
        AuditTrail.of(settings).append(change)

    record("plate@1", "passed", "2026-11-24T05:30:00.000Z")
    record("plate@2", "failed", "2026-11-24T13:30:00.000Z")
    assert "was never challenged" not in report(settings, "plate@1")
    history = report(settings, "plate@1").partition("Challenge history")[2].partition("<h2>")[0]
    assert "<td>otto</td><td>passed</td><td>top plate@1; scratch-1 reject, right</td>" in history
    assert "failed" not in history
    reports = ShiftReports(settings, read_snapshots(settings), PLANT)
    early = reports.make(Filters(day="2026-11-24", shift="06:00").within(PLANT), time.time_ns())
    assert "Challenges with known parts" in early
    assert "scratch-1 reject, right" in early
    late = reports.make(Filters(day="2026-11-24", shift="14:00").within(PLANT), time.time_ns())
    assert "<td>failed</td>" in late
