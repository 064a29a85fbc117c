"""Deletes the oldest rows of the journal: those above the limit of age, then those above the limit of size.

It knows nothing of clocks and threads. One call deletes one slice, so that no commit waits long for it.
"""

from __future__ import annotations

import sqlite3

from monitor.journal.schema import CHANGES_KEPT

_SLICE = 5_000
_GAPS_KEPT = 100_000
_RUNS_KEPT = 100_000
_TALLIES_KEPT = 1_000_000
_DELETE_TALLIES = """
DELETE FROM tallies WHERE slot_utc < :limit AND EXISTS (
    SELECT 1 FROM tallies AS later WHERE later.session = tallies.session AND later.camera = tallies.camera
    AND later.slot_utc > tallies.slot_utc AND later.slot_utc < :limit
)
"""
"""The newest tally of a session before the limit stays: later ones count from it."""


def prune(connection: sqlite3.Connection, limit_utc: str, most_bytes: int) -> bool:
    """Deletes one slice of verdicts; where no more of these exceed a limit, the old gaps, sessions,
    changes and tallies. Returns False while another call is needed.

    `limit_utc` is RFC 3339: verdicts with an older outcome are deleted. Above `most_bytes` passes and
    superseded frames are deleted before other verdicts, because no action followed from them.
    """
    if _delete_verdicts(connection, "outcome_utc < ? ORDER BY outcome_utc", limit_utc) == _SLICE:
        return False
    for condition in ("verdict = 'pass' OR reason = 'superseded'", "true"):
        is_too_large = _used_bytes(connection) > most_bytes
        if is_too_large and _delete_verdicts(connection, f"{condition} ORDER BY rowid"):
            return False
    connection.execute("DELETE FROM gaps WHERE to_utc < ?", (limit_utc,))
    connection.execute("DELETE FROM runs WHERE closed_utc < ?", (limit_utc,))
    connection.execute(_DELETE_TALLIES, {"limit": limit_utc})
    for table, kept in (
        ("gaps", _GAPS_KEPT),
        ("runs", _RUNS_KEPT),
        ("changes", CHANGES_KEPT),
        ("tallies", _TALLIES_KEPT),
    ):
        newest = f"SELECT max(rowid) FROM {table}"
        connection.execute(f"DELETE FROM {table} WHERE rowid <= ({newest}) - ?", (kept,))
    return True


def _used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the pages in use. The file itself does not shrink: later rows fill the freed pages."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _delete_verdicts(connection: sqlite3.Connection, condition: str, *values: str) -> int:
    """Deletes one slice of verdicts. Returns how many it deleted."""
    return connection.execute(
        f"DELETE FROM verdicts WHERE rowid IN (SELECT rowid FROM verdicts WHERE {condition} LIMIT {_SLICE})",
        values,
    ).rowcount
