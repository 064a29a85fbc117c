"""What happened in one shift or day: parts by camera and verdict, parts that were not judged, missed rejects,
and what was changed.

It knows nothing of pages. The journal has it all, over restarts of the service. Each call opens the journal
and closes it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.journal.reader import Change, Gap, JournalReader, JournalReadError, Session, VerdictRow
from monitor.journal.tallies import CameraTally
from monitor.line_state.latch_file import Latch
from monitor.review.parts_to_find import list_never_latching
from monitor.review.shifts import Period
from monitor.settings import CameraSettings

MOST_PARTS = 50
"""The newest uninspected parts and missed rejects that are listed."""
MOST_CHANGES = 200
_AGE_S = 4.0


@dataclass(frozen=True, slots=True)
class ShiftFigures:
    tallies: tuple[CameraTally, ...] = ()
    uninspected: tuple[VerdictRow, ...] = ()
    """The newest first."""
    missed: tuple[VerdictRow, ...] = ()
    changes: tuple[Change, ...] = ()
    gaps: tuple[Gap, ...] = ()
    sessions: tuple[Session, ...] = ()
    problem: str = ""
    """Why there are no figures, in one line."""

    @property
    def total(self) -> CameraTally:
        total = CameraTally("")
        for tally in self.tallies:
            total = total.plus(tally)
        return total


def read_figures(journal: Path, period: Period, cameras: Sequence[CameraSettings]) -> ShiftFigures:
    """The figures of that time. Where the journal can't be read, they say why."""
    start, end = period.start_utc, period.end_utc
    never = list_never_latching(Latch.MISSED_REJECT, cameras)
    try:
        with JournalReader(journal) as reader:
            return ShiftFigures(
                tuple(reader.tallies(start, end)),
                tuple(reader.uninspected(start, end, MOST_PARTS)),
                tuple(reader.undelivered(start, end, MOST_PARTS, never)),
                tuple(change for change in reader.changes(start) if change.utc < end)[-MOST_CHANGES:],
                tuple(gap for gap in reader.gaps(start) if gap.from_utc < end),
                tuple(session for session in reader.sessions(start) if session.started_utc < end),
            )
    except JournalReadError as error:
        return ShiftFigures(problem=str(error))


class RecentFigures:
    """The figures of the period that was asked for last, read at most every four seconds however many pages
    show them. Safe for several threads."""

    def __init__(
        self, journal: Path, cameras: Sequence[CameraSettings], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal, self._cameras, self._clock = journal, cameras, clock
        self._lock = threading.Lock()
        self._known: tuple[float, Period, ShiftFigures] | None = None

    def read(self, period: Period) -> ShiftFigures:
        with self._lock:
            known = self._known
            if known is None or known[1] != period or self._clock() - known[0] > _AGE_S:
                figures = read_figures(self._journal, period, self._cameras)
                known = self._known = self._clock(), period, figures
            return known[2]
