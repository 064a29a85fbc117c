"""Reads the journal, while the line runs or not: verdicts, gaps, sessions and changes.

It opens the file read-only and in many short reads, so that it never keeps the line from writing, nor the
write-ahead log from being emptied while somebody looks at a page. It must never make or alter the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec

from monitor.errors import LineMonitorError
from monitor.journal.schema import TooNew, check

_PAGE = 1_000
_PATIENCE_S = 5.0


class JournalUnreadable(LineMonitorError):
    """The journal can't be read; one line says which file, why and the fix."""


class NotedVerdict(msgspec.Struct, frozen=True, tag="verdict", tag_field="kind"):
    """One part's verdict and what became of it. Times are RFC 3339, UTC."""

    captured_utc: str
    camera: str
    frame: int
    part: int | None
    verdict: str
    reason: str | None
    score: float | None
    threshold: float | None
    outcome: str
    """decided (not sent so far), published, unheard (nobody was subscribed), acknowledged, unacknowledged,
    expired, not published (nobody was to be told), unknown (its service was killed before that)."""
    ack_result: str | None
    """What the gateway answered."""
    latency_ms: float | None
    """From capture to sending; null when it was not sent."""
    recipe: str
    recipe_sha: str | None
    decided_utc: str
    outcome_utc: str
    session: str
    event_id: str
    snapshot: str | None

    @property
    def utc(self) -> str:
        return self.captured_utc


class Gap(msgspec.Struct, frozen=True, tag="gap", tag_field="kind"):
    """A stretch of time of which rows are or may be missing; `lost` is null where nobody knows how many."""

    from_utc: str
    to_utc: str
    lost: int | None
    why: str

    @property
    def utc(self) -> str:
        return self.from_utc


class Session(msgspec.Struct, frozen=True, tag="session", tag_field="kind"):
    """From one start of the service to its end; `ended_utc` is null while it runs."""

    started_utc: str
    ended_utc: str | None
    properly: bool | None
    """False when the service was killed: it ended at `ended_utc` or later."""
    session: str | None

    @property
    def utc(self) -> str:
        return self.started_utc


class Change(msgspec.Struct, frozen=True, tag="change", tag_field="kind"):
    """Who changed what; null stands for no value, or for the default of a setting."""

    utc: str
    who: str
    what: str
    old: str | None
    new: str | None


class JournalReader:
    """One journal, open for reading. `since` is RFC 3339 with milliseconds, or empty for everything."""

    def __init__(self, file: Path) -> None:
        """Raises JournalUnreadable."""
        self._file = file
        if not file.is_file():
            raise JournalUnreadable(f"{file}: no journal yet: it begins when the service runs")
        self._connection = self._open()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def cameras(self) -> list[str]:
        """Every camera that has a row."""
        return [
            str(row[0])
            for row in self._rows("verdicts", "SELECT DISTINCT camera FROM verdicts ORDER BY camera")
        ]

    def verdicts(self, since: str = "", camera: str | None = None) -> Iterator[NotedVerdict]:
        """In the order in which they were decided, by the time of capture since then."""
        known = self._columns("verdicts")
        wanted = [field if field in known else "NULL" for field in NotedVerdict.__struct_fields__]
        of_camera = "AND camera = :camera" if camera is not None else ""
        after = 0
        while True:
            page = self._rows(
                "verdicts",
                f"SELECT rowid, {', '.join(wanted)} FROM verdicts WHERE rowid > :after "
                f"AND captured_utc >= :since {of_camera} ORDER BY rowid LIMIT {_PAGE}",
                {"after": after, "since": since, "camera": camera},
            )
            for _, *row in page:
                yield NotedVerdict(*row)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def gaps(self, since: str = "") -> list[Gap]:
        """Those that end since then."""
        return [
            Gap(*row)
            for row in self._rows(
                "gaps",
                "SELECT from_utc, to_utc, lost, why FROM gaps WHERE to_utc >= :since ORDER BY from_utc",
                {"since": since},
            )
        ]

    def sessions(self, since: str = "") -> list[Session]:
        """Those that ended since then, or have not ended."""
        known = self._columns("runs")
        session, killed = ("session", "killed") if "session" in known else ("NULL", "0")
        return [
            Session(opened, closed, None if closed is None else not killed_, name)
            for opened, closed, killed_, name in self._rows(
                "runs",
                f"SELECT opened_utc, closed_utc, {killed}, {session} FROM runs "
                "WHERE closed_utc IS NULL OR closed_utc >= :since ORDER BY opened_utc",
                {"since": since},
            )
        ]

    def changes(self, since: str = "") -> list[Change]:
        """In the order in which they were noted."""
        return [
            Change(*row)
            for row in self._rows(
                "changes",
                "SELECT utc, who, what, old, new FROM changes WHERE utc >= :since ORDER BY rowid",
                {"since": since},
            )
        ]

    def _open(self) -> sqlite3.Connection:
        place = f"file:{quote(str(self._file.absolute()))}"
        try:
            connection = self._checked(f"{place}?mode=ro")
        except sqlite3.OperationalError as error:
            if self._file.with_name(f"{self._file.name}-wal").exists():
                raise self._unreadable(error) from error
            # Nobody writes, and this user may not make the files that a shared read needs.
            try:
                connection = self._checked(f"{place}?mode=ro&immutable=1")
            except sqlite3.Error as again:
                raise self._unreadable(again) from again
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return connection

    def _checked(self, uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)
        try:
            check(connection)
        except (sqlite3.Error, TooNew) as error:
            connection.close()
            if isinstance(error, TooNew):
                raise JournalUnreadable(f"{self._file}: {error}") from None
            raise
        return connection

    def _columns(self, table: str) -> set[str]:
        """None where the table is missing: a journal of an older version, or one that is just being begun."""
        return {str(row[1]) for row in self._ask(f"PRAGMA table_info({table})", {})}

    def _rows(self, table: str, query: str, values: dict[str, object] | None = None) -> list[tuple[Any, ...]]:
        return self._ask(query, values or {}) if self._columns(table) else []

    def _ask(self, query: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: sqlite3.Error) -> JournalUnreadable:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        known = {
            sqlite3.SQLITE_BUSY: "locked by another program: close whatever has it open for writing",
            sqlite3.SQLITE_CANTOPEN: "can't be opened: run this as the service's user",
            sqlite3.SQLITE_READONLY: "can't be opened: run this as the service's user",
            sqlite3.SQLITE_NOTADB: "damaged: the service moves it aside at its next start",
            sqlite3.SQLITE_CORRUPT: "damaged: the service moves it aside at its next start",
        }
        return JournalUnreadable(f"{self._file}: {known.get(code, error)}")
