"""The texts for SQLite's errors: one line with the cause and the fix.

It knows nothing of the journal's content.
"""

from __future__ import annotations

import sqlite3

_LOCKED = "locked by another program: close whatever has it open for writing"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_READING = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: "can't be opened: run this as the service's user",
    sqlite3.SQLITE_READONLY: "can't be opened: run this as the service's user",
    **dict.fromkeys(_DAMAGED, "damaged: the service moves it aside at its next start"),
}
_WRITING = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "read-only: let the service's user write to it and its folder",
    sqlite3.SQLITE_CANTOPEN: "can't be opened: let the service's user write to its folder",
}


def explain_read_error(error: sqlite3.Error) -> str:
    """The text for a person or program that reads the journal."""
    return _READING.get(_primary_code(error), str(error))


def explain_write_error(error: sqlite3.Error) -> str:
    """The text for the service, which writes the journal."""
    return _WRITING.get(_primary_code(error), str(error))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged, or is no database."""
    return _primary_code(error) in _DAMAGED


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error that Python's module raises by itself."""
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF
