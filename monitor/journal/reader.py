"""Reads the journal, also while the line runs: verdicts, gaps, sessions and changes.

It knows nothing of the line. It opens the file read-only, and reads in short steps: one long read would keep
SQLite from emptying its write-ahead log. It must never make or change the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec

from monitor.errors import LineMonitorError
from monitor.journal import tallies
from monitor.journal.schema import NewerJournalError, check
from monitor.journal.sqlite_errors import explain_read_error
from monitor.journal.tallies import CameraTally
from monitor.verdict import Verdict

CameraVerdict = tuple[str, Verdict]
"""A camera's name and a verdict. A query `without` it leaves out the rows that have both."""
_PAGE = 1_000
_PATIENCE_S = 5.0


class JournalReadError(LineMonitorError):
    """The journal can't be read. The message is one line with the file, the cause and the fix."""


class VerdictRow(msgspec.Struct, frozen=True, tag="verdict", tag_field="kind"):
    """One part's verdict and what became of it. Times are RFC 3339 in UTC."""

    captured_utc: str
    camera: str
    frame: int
    part: int | None
    verdict: str
    reason: str | None
    score: float | None
    threshold: float | None
    outcome: str
    """decided (not sent yet), published, unheard (sent without a subscriber), acknowledged, unacknowledged,
    expired, not published (the settings require no message), unknown (the service was killed before its
    delivery ended)."""
    ack_result: str | None
    """The gateway's answer."""
    latency_ms: float | None
    """From capture to sending; null for a verdict that was not sent."""
    recipe: str
    recipe_sha: str | None
    decided_utc: str
    outcome_utc: str
    session: str
    event_id: str
    snapshot: str | None
    challenge: str | None = None
    """The id of the challenge part that the frame shows; null for production."""

    @property
    def utc(self) -> str:
        return self.captured_utc


class Gap(msgspec.Struct, frozen=True, tag="gap", tag_field="kind"):
    """A period whose rows are missing or may be missing. `lost` is their number, null when it is not
    known."""

    from_utc: str
    to_utc: str
    lost: int | None
    why: str

    @property
    def utc(self) -> str:
        return self.from_utc


class Session(msgspec.Struct, frozen=True, tag="session", tag_field="kind"):
    """One run of the service, from its start to its end; `ended_utc` is null while it runs."""

    started_utc: str
    ended_utc: str | None
    properly: bool | None
    """False when the service was killed. It then ended at `ended_utc` or later."""
    session: str | None

    @property
    def utc(self) -> str:
        return self.started_utc


class Change(msgspec.Struct, frozen=True, tag="change", tag_field="kind"):
    """One row of the record of changes; null is no value, or the default of a setting."""

    utc: str
    who: str
    what: str
    old: str | None
    new: str | None


class SessionTotal(msgspec.Struct, frozen=True):
    """What one camera judged in one session, without challenge parts."""

    session: str
    camera: str
    frames: int
    """The number of its last frame."""
    passed: int
    rejected: int
    uninspected: int


class JournalReader:
    """One journal, open for reading. `since` is RFC 3339 with milliseconds, or empty for all rows."""

    def __init__(self, file: Path) -> None:
        """Raises JournalReadError."""
        self._file = file
        if not file.is_file():
            raise JournalReadError(f"{file}: no journal yet: it begins when the service runs")
        self._connection = self._open()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def cameras(self) -> list[str]:
        """The names of all cameras that have a row."""
        return [
            str(row[0])
            for row in self._rows("verdicts", "SELECT DISTINCT camera FROM verdicts ORDER BY camera")
        ]

    def verdicts(self, since: str = "", camera: str | None = None) -> Iterator[VerdictRow]:
        """The verdicts of parts captured since then, in the order in which they were decided."""
        wanted = self._verdict_columns()
        of_camera = "AND camera = :camera" if camera is not None else ""
        after = 0
        while True:
            page = self._rows(
                "verdicts",
                f"SELECT rowid, {wanted} FROM verdicts WHERE rowid > :after "
                f"AND captured_utc >= :since {of_camera} ORDER BY rowid LIMIT {_PAGE}",
                {"after": after, "since": since, "camera": camera},
            )
            for _, *row in page:
                yield VerdictRow(*row)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def uninspected(
        self, start: str, end: str, most: int, without: Collection[CameraVerdict] = ()
    ) -> list[VerdictRow]:
        """The newest uninspected parts that were captured from `start` until `end`, without challenge
        parts."""
        return self._newest(start, end, most, f"verdict = 'uninspected' AND {self._of_production()}", without)

    def rejects(self, start: str, end: str, most: int) -> list[VerdictRow]:
        """The newest rejects that were captured from `start` until `end`, without challenge parts."""
        return self._newest(start, end, most, f"verdict = 'reject' AND {self._of_production()}")

    def _of_production(self) -> str:
        """The condition of a query that leaves challenge parts out."""
        return "challenge IS NULL" if "challenge" in self._columns("verdicts") else "1"

    def undelivered(
        self, start: str, end: str, most: int, without: Collection[CameraVerdict] = ()
    ) -> list[VerdictRow]:
        """The newest rejects and uninspected parts of that time whose verdict the gate did not get or did not
        act on, as far as known."""
        outcomes = "outcome IN ('expired', 'unacknowledged', 'unknown')"
        return self._newest(start, end, most, f"verdict IN ('reject', 'uninspected') AND {outcomes}", without)

    def _verdict_columns(self) -> str:
        """The fields of a `VerdictRow` in a query; NULL for those that an older journal lacks."""
        known = self._columns("verdicts")
        return ", ".join(field if field in known else "NULL" for field in VerdictRow.__struct_fields__)

    def _newest(
        self, start: str, end: str, most: int, condition: str, without: Collection[CameraVerdict] = ()
    ) -> list[VerdictRow]:
        wanted = self._verdict_columns()
        values: dict[str, object] = {"start": start, "end": end, "most": most}
        for number, (camera, verdict) in enumerate(without):
            condition += f" AND NOT (camera = :camera{number} AND verdict = :verdict{number})"
            values |= {f"camera{number}": camera, f"verdict{number}": verdict.word}
        # A verdict's outcome comes after its capture: the index by outcome finds the first row.
        rows = self._rows(
            "verdicts",
            f"SELECT {wanted} FROM verdicts "
            f"WHERE outcome_utc >= :start AND captured_utc >= :start "
            f"AND captured_utc < :end AND {condition} ORDER BY captured_utc DESC LIMIT :most",
            values,
        )
        return [VerdictRow(*row) for row in rows]

    def gaps(self, since: str = "") -> list[Gap]:
        """The gaps that ended since then."""
        return [
            Gap(*row)
            for row in self._rows(
                "gaps",
                "SELECT from_utc, to_utc, lost, why FROM gaps WHERE to_utc >= :since ORDER BY from_utc",
                {"since": since},
            )
        ]

    def sessions(self, since: str = "") -> list[Session]:
        """The sessions that ended since then or have not ended."""
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
        """The changes since then, in the order in which they were recorded."""
        return [
            Change(*row)
            for row in self._rows(
                "changes",
                "SELECT utc, who, what, old, new FROM changes WHERE utc >= :since ORDER BY rowid",
                {"since": since},
            )
        ]

    def tallies(self, start: str, end: str) -> list[CameraTally]:
        """What each camera judged from `start` until `end`, over all sessions. A journal of an older version
        has no such counts."""
        return tallies.subtract(
            self._rows("tallies", *tallies.until(end)), self._rows("tallies", *tallies.until(start))
        )

    def session_totals(self, since: str) -> list[SessionTotal]:
        """What each camera judged in each session that has counts from the last minutes before `since` or
        later."""
        if "frames" not in self._columns("tallies"):
            return []
        query, values = tallies.by_session(since)
        return [SessionTotal(*row) for row in self._query(query, values)]

    def _open(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self._file.absolute()))}"
        try:
            connection = self._connect(f"{uri}?mode=ro")
        except sqlite3.OperationalError as error:
            if self._file.with_name(f"{self._file.name}-wal").exists():
                raise self._unreadable(error) from error
            # No program has the journal open for writing, and this user may not create the files that SQLite
            # needs for a shared read.
            try:
                connection = self._connect(f"{uri}?mode=ro&immutable=1")
            except sqlite3.Error as again:
                raise self._unreadable(again) from again
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return connection

    def _connect(self, uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)
        try:
            check(connection)
        except (sqlite3.Error, NewerJournalError) as error:
            connection.close()
            if isinstance(error, NewerJournalError):
                raise JournalReadError(f"{self._file}: {error}") from None
            raise
        return connection

    def _columns(self, table: str) -> set[str]:
        """The names of a table's columns. It is empty when the table is missing: in a journal of an older
        version, or in one that is being made."""
        return {str(row[1]) for row in self._query(f"PRAGMA table_info({table})", {})}

    def _rows(
        self, table: str, query: str, values: dict[str, object] | tuple[str, ...] = ()
    ) -> list[tuple[Any, ...]]:
        return self._query(query, values) if self._columns(table) else []

    def _query(self, query: str, values: dict[str, object] | tuple[str, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: sqlite3.Error) -> JournalReadError:
        return JournalReadError(f"{self._file}: {explain_read_error(error)}")
