"""The report of a shift whose rejects were missed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from monitor import paths
from monitor.journal.writer import JournalWriter
from monitor.review.filters import Filters
from monitor.review.shift_figures import MOST_PARTS
from monitor.review.shift_report import ShiftReports, read_snapshots
from monitor.review.shifts import PlantClock
from monitor.settings import CameraSettings, JournalSettings, LineSettings, OnUninspected, Settings
from monitor.verdict import Event, Reason, Verdict

START_NS = 1_795_000_000_000_000_000


def make_report(tmp_path: Path, cameras: tuple[CameraSettings, ...], events: list[Event]) -> str:
    """The report of a shift with these verdicts, none of which the gate got."""
    settings = Settings(line=LineSettings(data=tmp_path), camera=cameras)
    writer = JournalWriter(paths.journal(settings), JournalSettings(), utc_ns=lambda: START_NS)
    for event in events:
        writer.put(event, "expired")
    assert writer.close()
    plant = PlantClock.of(settings.review)
    filters = Filters.parse({"day": plant.day(datetime.fromtimestamp(START_NS / 1e9, UTC))}, plant)
    return ShiftReports(settings, read_snapshots(settings), plant).make(filters, START_NS)


def event(camera: str, frame: int, verdict: Verdict, reason: Reason) -> Event:
    captured = START_NS + frame * 1_000_000
    scored = verdict, reason, 2.0, 1.0, "plate", None
    return Event("p/l", camera, "s", frame, None, *scored, captured, captured, captured, None)


def test_a_missed_reject_is_listed_in_words(tmp_path: Path) -> None:
    page = make_report(tmp_path, (), [event("top", 7, Verdict.REJECT, Reason.NONE)])
    assert "the message came too late to be sent" in page


def test_parts_that_no_gate_must_remove_do_not_push_a_missed_reject_out_of_the_list(tmp_path: Path) -> None:
    side = CameraSettings(
        name="side", source="simulated://plate", recipe="plate", on_uninspected=OnUninspected.PASS
    )
    let_through = [event("side", 8 + n, Verdict.UNINSPECTED, Reason.DEADLINE) for n in range(MOST_PARTS)]
    page = make_report(tmp_path, (side,), [event("top", 7, Verdict.REJECT, Reason.NONE), *let_through])
    missed = page.partition("<h2>Missed rejects</h2>")[2].partition("<h2>")[0]
    assert "the message came too late to be sent" in missed
    assert "side" not in missed
