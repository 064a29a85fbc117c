"""The record of changes: who changed which setting, recipe or threshold, with the old and the new value.

It knows nothing of threads or files: its caller gives the connection. Rows are only added. The table
`in_force` holds the values that were recorded last, so that the changes made while the service was stopped
are found at its next start. A secret must never be in the file: a slow, salted hash of it shows only whether
it has changed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import SecretStr

_HASHED = "scrypt:"
_SECRET, _CHANGED = "(secret)", "(secret, changed)"


def add(
    connection: sqlite3.Connection, utc: str, what: str, old: str | None, new: str | None, who: str
) -> None:
    """Adds one change; None stands for no value."""
    connection.execute(
        "INSERT INTO changes (utc, what, old, new, who) VALUES (?, ?, ?, ?, ?)", (utc, what, old, new, who)
    )


class Difference(NamedTuple):
    """A value that differs from the one recorded last, as it is shown: no secret in clear."""

    what: str
    old: str | None
    new: str | None


def compare(
    connection: sqlite3.Connection, utc: str, scope: str, values: Mapping[str, str | SecretStr], who: str
) -> list[Difference]:
    """Adds a change for every value of the scope that differs from the value recorded last, stores the new
    value in `in_force`, and returns the differences."""
    found = []
    recorded: dict[str, str] = dict(
        connection.execute("SELECT what, value FROM in_force WHERE scope = ?", (scope,))
    )
    for what in [*values, *(gone for gone in recorded if gone not in values)]:
        before, now = recorded.get(what), values.get(what)
        if _is_same(before, now):
            continue
        difference = Difference(what, _show_old(before), _show_new(before, now))
        found.append(difference)
        add(connection, utc, *difference, who)
        if now is None:
            connection.execute("DELETE FROM in_force WHERE scope = ? AND what = ?", (scope, what))
        else:
            stored = _hash(now.get_secret_value(), os.urandom(16)) if isinstance(now, SecretStr) else now
            connection.execute(
                "INSERT OR REPLACE INTO in_force (scope, what, value) VALUES (?, ?, ?)", (scope, what, stored)
            )
    return found


def _is_same(before: str | None, now: str | SecretStr | None) -> bool:
    if before is not None and isinstance(now, SecretStr):
        if not before.startswith(_HASHED):
            return False
        salt = bytes.fromhex(before.split(":")[1])
        return before == _hash(now.get_secret_value(), salt)
    return before == now


def _hash(secret: str, salt: bytes) -> str:
    return f"{_HASHED}{salt.hex()}:{hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"


def _show_old(before: str | None) -> str | None:
    return _SECRET if before is not None and before.startswith(_HASHED) else before


def _show_new(before: str | None, now: str | SecretStr | None) -> str | None:
    if isinstance(now, SecretStr):
        return _SECRET if before is None else _CHANGED
    return now
