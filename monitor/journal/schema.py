"""The journal's tables, and how an older journal becomes one of today's.

Whoever writes calls `bring_up_to_date` first; whoever only reads calls `check`. It must never touch a
journal of a newer version than its own: what that one means by its columns is not known here.
"""

from __future__ import annotations

import sqlite3

from monitor.errors import LineMonitorError

VERSION = 2
CHANGES_KEPT = 100_000
"""Some 20 MB, a lifetime of changes. No newer one can be deleted, and none altered."""

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
)
"""Step n makes version n of version n - 1. Version 1 did not say its number: it is 0, as in an empty file."""


class TooNew(LineMonitorError):
    """The journal is of a newer version of this program; one line says so."""


def check(connection: sqlite3.Connection) -> int:
    """The journal's version; 0 where it was not begun or is of the first version. Raises TooNew."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise TooNew(
            f"written by a newer version of this program (journal {version}, here {VERSION}): "
            "update this one, or move the file away"
        )
    return version


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Makes the tables, or what they lack; within the caller's transaction. Raises TooNew."""
    version = check(connection)
    for step in _STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    if version < VERSION:
        connection.execute(f"PRAGMA user_version = {VERSION}")
