"""The report of a shift whose rejects were missed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from monitor import paths
from monitor.journal.writer import JournalWriter
from monitor.review.filters import Filters
from monitor.review.shift_report import ShiftReports, read_snapshots
from monitor.review.shifts import PlantClock
from monitor.settings import JournalSettings, LineSettings, Settings
from monitor.verdict import Event, Reason, Verdict

START_NS = 1_795_000_000_000_000_000


def test_a_missed_reject_is_listed_in_words(tmp_path: Path) -> None:
    settings = Settings(line=LineSettings(data=tmp_path))
    writer = JournalWriter(paths.journal(settings), JournalSettings(), utc_ns=lambda: START_NS)
    scored = Verdict.REJECT, Reason.NONE, 2.0, 1.0, "plate", None
    writer.put(Event("p/l", "top", "s", 7, None, *scored, START_NS, START_NS, START_NS, None), "expired")
    assert writer.close()
    plant = PlantClock.of(settings.review)
    filters = Filters.parse({"day": plant.day(datetime.fromtimestamp(START_NS / 1e9, UTC))}, plant)
    page = ShiftReports(settings, read_snapshots(settings), plant).make(filters, START_NS)
    assert "the message came too late to be sent" in page
