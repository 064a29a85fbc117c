"""The report of one shift or day: parts, rejects, what was not judged, missed rejects, and what was changed.

It knows nothing of HTTP.
"""

from __future__ import annotations

import time
from collections import Counter

from monitor import paths
from monitor.audit.trail import AuditTrail
from monitor.review.filters import Filters
from monitor.review.pictures import Pictures
from monitor.review.printed_page import render_page
from monitor.review.report_contents import read_entries, show_parts
from monitor.review.shift_figures import read_figures
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import SnapshotFiles
from monitor.review.snapshot_index import IndexEntry, SnapshotIndex
from monitor.settings import Settings
from monitor.verdict import rfc3339

MOST_PICTURES = 12
MOST_ENTRIES = 200


class ShiftReports:
    """The shift reports of one line. `index` holds the snapshots, as far as they are read."""

    def __init__(self, settings: Settings, index: SnapshotIndex, plant: PlantClock) -> None:
        self._settings, self._index, self._plant = settings, index, plant
        self._pictures = Pictures(SnapshotFiles(paths.snapshots(settings)))

    def make(self, filters: Filters, utc_ns: int) -> str:
        """The report of the filters' day and shift, as one HTML page."""
        period = filters.period
        if period is None:
            raise ValueError("a report needs a day")
        entries = list(self._index.matching(Filters(day=filters.day, period=period)))
        shown = sorted(entries, key=lambda entry: entry.score, reverse=True)[:MOST_PICTURES]
        labels = Counter(
            details.label.text if (details := self._index.details(entry)).label else "no label"
            for entry in entries
        )
        now = rfc3339(utc_ns)
        return render_page(
            "shift_report.html",
            line=self._settings.prefix,
            plant=self._plant,
            made=self._plant.show(now),
            day=filters.day,
            shift=filters.shift,
            period=period,
            is_over=now >= period.end_utc,
            figures=read_figures(paths.journal(self._settings), period, self._settings.camera),
            views=frozenset(camera.name for camera in self._settings.camera if camera.mode.value == "latest"),
            labels=labels,
            pictures=show_parts(self._pictures, ((entry.key, self._describe(entry)) for entry in shown)),
            snapshots=len(entries),
            recorded=read_entries(
                AuditTrail.of(self._settings),
                lambda entry: period.start_utc <= entry.utc < period.end_utc,
                MOST_ENTRIES,
            ),
        )

    def _describe(self, entry: IndexEntry) -> str:
        key, details = entry.key, self._index.details(entry)
        when = f"{self._plant.of_snapshot(key.day, key.stem):%H:%M:%S}"
        label = details.label.text if details.label else "no label"
        return f"{when}, camera {key.camera}: {details.ratio_text(key.score)}, {label}"


def read_snapshots(settings: Settings) -> SnapshotIndex:
    """An index of all snapshots, for a report without a page. Raises OSError."""
    index = SnapshotIndex(SnapshotFiles(paths.snapshots(settings)), clock=time.monotonic)
    index.step()
    return index
