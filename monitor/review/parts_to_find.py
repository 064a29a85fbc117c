"""All parts for which the line is latched, which a person looks for before a reset.

It knows nothing of pages. The board names the first parts and counts all; the journal has the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.journal.reader import CameraVerdict, JournalReader, JournalReadError
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import LatchedPart, LatchedParts
from monitor.line_state.verdict_rules import is_for_gate, must_stop
from monitor.settings import CameraSettings
from monitor.verdict import Verdict

MOST_LISTED = 200
_END = "9999"
"""Later than any RFC 3339 time."""


@dataclass(frozen=True, slots=True)
class PartsToFind:
    parts: tuple[LatchedPart, ...] = ()
    """In the order in which they were captured."""
    unlisted: int = 0
    """How many more there are; at least this many without `is_counted`."""
    is_counted: bool = True
    problem: str = ""
    """Why the journal can't be read; it has the parts that the board does not name."""

    @property
    def count(self) -> int:
        return len(self.parts) + self.unlisted


def find_parts(
    journal: Path, latch: Latch, latched: LatchedParts, cameras: Sequence[CameraSettings]
) -> PartsToFind:
    """The parts of the latch. Where the journal can't be read, those that the board names."""
    if not latched.more or not latched.parts:
        return PartsToFind(latched.parts, latched.beyond, is_counted=latched.count is not None)
    since = min(part.captured_utc for part in latched.parts)
    problem = ""
    try:
        with JournalReader(journal) as reader:
            read = reader.uninspected if latch is Latch.UNINSPECTED else reader.undelivered
            rows = read(since, _END, MOST_LISTED, list_never_latching(latch, cameras))
    except JournalReadError as error:
        rows, problem = [], str(error)
    found = {(part.camera, part.captured_utc, part.frame): part for part in latched.parts}
    for row in rows:
        key = row.camera, row.captured_utc, row.frame
        found.setdefault(key, LatchedPart(row.camera, row.frame, row.captured_utc, row.snapshot))
    is_whole = not problem and len(rows) < MOST_LISTED
    return PartsToFind(
        tuple(sorted(found.values(), key=lambda part: part.captured_utc)),
        max(0, (latched.count or 0) - len(found)),
        is_counted=latched.count is not None or is_whole,
        problem=problem,
    )


def list_never_latching(latch: Latch, cameras: Sequence[CameraSettings]) -> list[CameraVerdict]:
    """The parts that never latch the line, by the present settings. A camera that has left them is not among
    them: its parts count."""
    rule = must_stop if latch is Latch.UNINSPECTED else is_for_gate
    return [
        (camera.name, verdict)
        for camera in cameras
        for verdict in (Verdict.REJECT, Verdict.UNINSPECTED)
        if not rule(verdict, camera)
    ]
