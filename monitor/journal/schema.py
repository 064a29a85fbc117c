"""The journal's tables, and the steps that bring an older journal up to date.

It knows nothing of the rows. A writer calls `bring_up_to_date` first, a reader `check`. A journal of a newer
version must never be changed, because the meaning of its columns is not known here.
"""

from __future__ import annotations

import sqlite3

from monitor.errors import LineMonitorError

VERSION = 4
CHANGES_KEPT = 100_000
"""The number of newest rows in the record of changes that can't be deleted, about 20 MB. No row can be
altered."""

_STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE IF NOT EXISTS verdicts (
            event_id TEXT PRIMARY KEY,
            session TEXT NOT NULL,
            camera TEXT NOT NULL,
            frame INTEGER NOT NULL,
            verdict TEXT NOT NULL,
            reason TEXT,
            score REAL,
            threshold REAL,
            recipe TEXT NOT NULL,
            recipe_sha TEXT,
            captured_utc TEXT NOT NULL,
            decided_utc TEXT NOT NULL,
            outcome TEXT NOT NULL,
            outcome_utc TEXT NOT NULL,
            ack_result TEXT,
            snapshot TEXT
        )""",
        "CREATE INDEX IF NOT EXISTS verdicts_by_time ON verdicts (outcome_utc)",
        """CREATE TABLE IF NOT EXISTS gaps (
            from_utc TEXT NOT NULL,
            to_utc TEXT NOT NULL,
            lost INTEGER,
            why TEXT NOT NULL
        )""",
        """CREATE TABLE IF NOT EXISTS runs (
            opened_utc TEXT NOT NULL,
            closed_utc TEXT
        )""",
    ),
    (
        "ALTER TABLE verdicts ADD COLUMN part INTEGER",
        "ALTER TABLE verdicts ADD COLUMN latency_ms REAL",
        "ALTER TABLE runs ADD COLUMN session TEXT",
        "ALTER TABLE runs ADD COLUMN seen_utc TEXT",
        "ALTER TABLE runs ADD COLUMN killed INTEGER NOT NULL DEFAULT 0",
        """CREATE TABLE changes (
            utc TEXT NOT NULL,
            what TEXT NOT NULL,
            old TEXT,
            new TEXT,
            who TEXT NOT NULL
        )""",
        """CREATE TRIGGER changes_are_never_altered BEFORE UPDATE ON changes
            BEGIN SELECT raise(ABORT, 'the record of changes is append-only'); END""",
        f"""CREATE TRIGGER changes_are_kept BEFORE DELETE ON changes
            WHEN old.rowid > (SELECT max(rowid) FROM changes) - {CHANGES_KEPT}
            BEGIN SELECT raise(ABORT, 'the record of changes is append-only'); END""",
        """CREATE TABLE in_force (
            scope TEXT NOT NULL,
            what TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (scope, what)
        )""",
    ),
    (
        """CREATE TABLE tallies (
            session TEXT NOT NULL,
            camera TEXT NOT NULL,
            slot_utc TEXT NOT NULL,
            counted INTEGER NOT NULL,
            passed INTEGER NOT NULL,
            no_part INTEGER NOT NULL,
            rejected INTEGER NOT NULL,
            missed INTEGER NOT NULL,
            uninspected TEXT NOT NULL,
            PRIMARY KEY (session, camera, slot_utc)
        )""",
    ),
    (
        "ALTER TABLE verdicts ADD COLUMN challenge TEXT",
        "ALTER TABLE tallies ADD COLUMN frames INTEGER NOT NULL DEFAULT 0",
    ),
)
"""Step n turns version n - 1 into version n. Version 1 has the number 0 in its file, as an empty file has."""


class NewerJournalError(LineMonitorError):
    """A newer version of this program has written the journal. The message is one line with the fix."""


def check(connection: sqlite3.Connection) -> int:
    """The journal's version; 0 when it is empty or of the first version. Raises NewerJournalError."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise NewerJournalError(
            f"written by a newer version of this program (journal {version}, here {VERSION}): "
            "update this one, or move the file away"
        )
    return version


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Makes the missing tables and columns within the caller's transaction. Raises NewerJournalError."""
    version = check(connection)
    for step in _STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    if version < VERSION:
        connection.execute(f"PRAGMA user_version = {VERSION}")
