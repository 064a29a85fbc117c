"""The report of one shift or day: parts, rejects, what was not judged, missed rejects, and what was changed.

It knows nothing of HTTP.
"""

from __future__ import annotations

import time
from collections import Counter

from monitor import paths
from monitor.audit.entry import Entry, Head
from monitor.audit.trail import AuditError, AuditTrail
from monitor.review.filters import Filters
from monitor.review.pictures import Pictures
from monitor.review.printed_page import embed, render_page
from monitor.review.recipe_report import PictureOf
from monitor.review.shift_figures import read_figures
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import NoSuchSnapshot, SnapshotFiles
from monitor.review.snapshot_index import IndexEntry, SnapshotIndex
from monitor.review.uninspected_reasons import explain_reason
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
        if filters.period is None:
            raise ValueError("a report needs a day")
        entries = list(self._index.matching(Filters(day=filters.day, period=filters.period)))
        labels = Counter(
            details.label.text if (details := self._index.details(entry)).label else "no label"
            for entry in entries
        )
        changes, head, problem = self._recorded(filters)
        now = rfc3339(utc_ns)
        return render_page(
            "shift_report.html",
            line=self._settings.prefix,
            plant=self._plant,
            made=self._plant.show(now),
            day=filters.day,
            shift=filters.shift,
            period=filters.period,
            is_over=now >= filters.period.end_utc,
            figures=read_figures(paths.journal(self._settings), filters.period),
            views=frozenset(camera.name for camera in self._settings.camera if camera.mode.value == "latest"),
            explain_reason=explain_reason,
            labels=labels,
            pictures=self._shown(
                sorted(entries, key=lambda entry: entry.score, reverse=True)[:MOST_PICTURES]
            ),
            snapshots=len(entries),
            changes=changes,
            head=head,
            trail_problem=problem,
        )

    def _recorded(self, filters: Filters) -> tuple[list[Entry], Head | None, str]:
        """The entries of the record of changes within the period, its head, and why it can't be read."""
        if filters.period is None:
            return [], None, ""
        trail = AuditTrail.of(self._settings)
        try:
            found = [
                entry
                for entry in trail.entries()
                if filters.period.start_utc <= entry.utc < filters.period.end_utc
            ]
            return found[-MOST_ENTRIES:], trail.head(), ""
        except AuditError as error:
            return [], None, str(error)

    def _shown(self, entries: list[IndexEntry]) -> list[PictureOf]:
        found = []
        for entry in entries:
            key, details = entry.key, self._index.details(entry)
            try:
                picture = embed(self._pictures.thumbnail(key), "jpeg")
            except NoSuchSnapshot:
                continue
            when = f"{self._plant.of_snapshot(key.day, key.stem):%H:%M:%S}"
            label = details.label.text if details.label else "no label"
            found.append(
                PictureOf(picture, f"{when}, camera {key.camera}: {details.ratio_text(key.score)}, {label}")
            )
        return found


def read_snapshots(settings: Settings) -> SnapshotIndex:
    """An index of all snapshots, for a report without a page. Raises OSError."""
    index = SnapshotIndex(SnapshotFiles(paths.snapshots(settings)), clock=time.monotonic)
    index.step()
    return index
