"""The counts of each camera over time, in the journal: how many parts passed also before the last restart.

It knows nothing of threads or files: its caller gives the connection. A row holds a session's counts since
its start, as they were at the end of a slot of five minutes. So a row that is written twice, by another
publisher or after a kill, counts nothing twice, and a row that is missing loses nothing but the time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from monitor.verdict import Reason, rfc3339

if TYPE_CHECKING:
    # Loading it takes long, and readers of the journal don't need it.
    from monitor.line_state.counts import Counts

SLOT_NS = 300 * 1_000_000_000
_UPSERT = """
INSERT INTO tallies
    (session, camera, slot_utc, counted, passed, no_part, rejected, missed, uninspected, frames)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session, camera, slot_utc) DO UPDATE SET
    counted = excluded.counted, passed = excluded.passed, no_part = excluded.no_part,
    rejected = excluded.rejected, missed = excluded.missed, uninspected = excluded.uninspected,
    frames = excluded.frames
WHERE excluded.counted >= counted
"""
# SQLite takes the other columns from the row of the maximum (https://sqlite.org/lang_select.html#bareagg).
_UNTIL = """
SELECT session, camera, max(counted), passed, no_part, rejected, missed, uninspected
FROM tallies WHERE slot_utc < ? GROUP BY session, camera
"""
_BY_SESSION = """
SELECT session, camera, frames, passed, rejected,
    (SELECT coalesce(sum(value), 0) FROM json_each(uninspected)) FROM (
        SELECT session, camera, max(counted), frames, passed, rejected, uninspected
        FROM tallies WHERE slot_utc >= coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', :since, '-5 minutes'), '')
        GROUP BY session, camera
    )
"""


@dataclass(frozen=True, slots=True)
class CameraTally:
    """One camera's frames within a period: of a camera that judges parts, its parts."""

    camera: str
    passed: int = 0
    no_part: int = 0
    """The passed frames that showed no part."""
    rejected: int = 0
    missed: int = 0
    """Rejects that the gate did not get in time, or did not act on."""
    uninspected: dict[str, int] = field(default_factory=dict)
    """By the reason's word."""

    @property
    def frames(self) -> int:
        return self.passed + self.rejected + sum(self.uninspected.values())

    def plus(self, other: CameraTally, sign: int = 1) -> CameraTally:
        """The sum; with the sign -1 the difference."""
        words = {*self.uninspected, *other.uninspected}
        uninspected = {
            word: self.uninspected.get(word, 0) + sign * other.uninspected.get(word, 0) for word in words
        }
        return CameraTally(
            self.camera,
            self.passed + sign * other.passed,
            self.no_part + sign * other.no_part,
            self.rejected + sign * other.rejected,
            self.missed + sign * other.missed,
            {word: number for word, number in sorted(uninspected.items()) if number},
        )


def write(connection: sqlite3.Connection, session: str, camera: str, slot_ns: int, counts: Counts) -> None:
    """Writes a session's counts so far to the slot that began at `slot_ns` (UTC)."""
    words = {Reason(number).word or "": count for number, count in enumerate(counts.uninspected) if count}
    # Challenge parts are no production; they count here only so that a later row replaces an earlier one.
    closed = counts.frames - counts.in_flight
    row = (
        session,
        camera,
        rfc3339(slot_ns),
        closed + counts.missed_rejects,
        counts.passed,
        counts.no_part,
        counts.rejected,
        counts.missed_rejects,
        msgspec.json.encode(words).decode(),
        counts.frames,
    )
    connection.execute(_UPSERT, row)


def until(utc: str) -> tuple[str, tuple[str]]:
    """The query for the counts of all sessions before that time."""
    return _UNTIL, (utc,)


def by_session(since: str) -> tuple[str, dict[str, object]]:
    """The query for each session's counts at its end, of sessions with counts since then or in the slot
    before."""
    return _BY_SESSION, {"since": since}


def subtract(after: Iterable[tuple[object, ...]], before: Iterable[tuple[object, ...]]) -> list[CameraTally]:
    """The tallies between two times, by camera, from the rows of `until` at both."""
    earlier = {row[:2]: _tally(row) for row in before}
    found: dict[str, CameraTally] = {}
    for row in after:
        tally = _tally(row)
        if (start := earlier.get(row[:2])) is not None:
            tally = tally.plus(start, -1)
        found[tally.camera] = found.get(tally.camera, CameraTally(tally.camera)).plus(tally)
    return [found[camera] for camera in sorted(found) if found[camera].frames or found[camera].missed]


def _tally(row: tuple[object, ...]) -> CameraTally:
    _, camera, _, passed, no_part, rejected, missed, uninspected = row
    words = msgspec.json.decode(str(uninspected), type=dict[str, int])
    return CameraTally(
        str(camera), int(str(passed)), int(str(no_part)), int(str(rejected)), int(str(missed)), words
    )
