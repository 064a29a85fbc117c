"""The journal: every reject and uninspected verdict, and what became of it, in SQLite.

It must never delay or stop its caller. `put` only hands over; a thread of its own commits within half a
second. A journal that is locked, full or gone is a `problem` and one log line, and what it missed meanwhile
stands in it as a gap once it works again. It is a record: nothing on the line is ever decided from it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from monitor.believed_time import BelievedUtc
from monitor.verdict import Event, Verdict, rfc3339

KEEP_DAYS = 365
MOST_ROWS = 1_000_000
"""Some 400 MB."""
HELD = 10_000
"""Rows that wait for a journal that can't be written; later ones are counted as lost."""

_COMMIT_EVERY_S = 0.2
_RETRY_S = 0.5
_BATCH = 1_000
_PRUNE_EVERY_S = 600.0
_PRUNE_SLICE = 5_000
_MOST_SET_ASIDE = 3
_BUSY_MS = 200
_DAY_NS = 86_400 * 1_000_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts (
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
);
CREATE INDEX IF NOT EXISTS verdicts_by_time ON verdicts (outcome_utc);
CREATE TABLE IF NOT EXISTS gaps (
    from_utc TEXT NOT NULL,
    to_utc TEXT NOT NULL,
    lost INTEGER,
    why TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS runs (
    opened_utc TEXT NOT NULL,
    closed_utc TEXT
);
"""

_UPSERT = """
INSERT INTO verdicts (event_id, session, camera, frame, verdict, reason, score, threshold, recipe, recipe_sha,
                      captured_utc, decided_utc, outcome, outcome_utc, ack_result, snapshot)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO UPDATE SET
    verdict = excluded.verdict, reason = excluded.reason, score = excluded.score,
    threshold = excluded.threshold, recipe = excluded.recipe, recipe_sha = excluded.recipe_sha,
    decided_utc = excluded.decided_utc, outcome = excluded.outcome, outcome_utc = excluded.outcome_utc,
    ack_result = coalesce(excluded.ack_result, ack_result), snapshot = coalesce(excluded.snapshot, snapshot)
"""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class _Entry(NamedTuple):
    event: Event
    outcome: str
    outcome_utc_ns: int
    ack_result: str | None


class Journal:
    """`file` is made with its folder where missing. `utc_ns` is the clock, in nanoseconds."""

    def __init__(
        self,
        file: Path,
        *,
        utc_ns: Callable[[], int] = time.time_ns,
        keep_days: float = KEEP_DAYS,
        most_rows: int = MOST_ROWS,
        held: int = HELD,
        log: logging.Logger | None = None,
    ) -> None:
        self._file = file
        self._utc_ns = utc_ns
        self._keep_ns = round(keep_days * _DAY_NS)
        self._most_rows = most_rows
        self._log = log if log is not None else logging.getLogger(__name__)
        self._believed = BelievedUtc(utc_ns, time.monotonic_ns)
        self._waiting: queue.Queue[_Entry] = queue.Queue(held)
        self._lost_lock = threading.Lock()
        self._lost = 0
        self._lost_since_ns = 0
        self._problem: str | None = None
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._batch: list[_Entry] = []
        self._begins_after: str | None = None
        self._prune_at = 0.0
        self._closing = threading.Event()
        self._give_up_at = float("inf")
        self._whole = False
        # A daemon: a disk that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the journal can't be written at the moment, in one line; None while it can."""
        return self._problem

    @property
    def lost(self) -> int:
        """Rows lost since the last gap that is in the journal."""
        return self._lost

    def put(self, event: Event, outcome: str, ack_result: str | None = None) -> None:
        """Notes what became of an event: "published", "acknowledged", "expired" and the like.

        Returns at once and never raises. The last outcome put for an event stands. A pass isn't noted.
        """
        if event.verdict is Verdict.PASS:
            return
        try:
            self._waiting.put_nowait(_Entry(event, outcome, self._utc_ns(), ack_result))
        except queue.Full:
            with self._lost_lock:
                if self._lost == 0:
                    self._lost_since_ns = self._utc_ns()
                self._lost += 1

    def close(self, timeout_s: float = 2.0) -> bool:
        """Writes what waits and closes the file, within `timeout_s`. True when everything is on disk."""
        self._give_up_at = time.monotonic() + timeout_s
        self._closing.set()
        self._thread.join(timeout_s + 0.5)
        return self._whole

    # -- the journal's own thread

    def _run(self) -> None:
        try:
            while True:
                if not self._batch:
                    self._gather()
                written = self._write_out()
                if self._closing.is_set():
                    done = written and not self._batch and self._waiting.empty()
                    if done or time.monotonic() >= self._give_up_at:
                        break
                if not written:
                    self._pause()
            self._whole = self._finish() and done and self._lost == 0
        finally:
            self._disconnect()
            if not self._closing.is_set():
                self._problem = f"journal: {self._file}: its thread has ended"

    def _pause(self) -> None:
        if self._closing.is_set():
            time.sleep(0.02)
        else:
            self._closing.wait(_RETRY_S)

    def _gather(self) -> None:
        """What waits, from the first entry on for a fraction of a second."""
        until = time.monotonic() + _COMMIT_EVERY_S
        while len(self._batch) < _BATCH and not (self._closing.is_set() and self._waiting.empty()):
            left = until - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(queue.Empty):
                self._batch.append(self._waiting.get(timeout=left))

    def _write_out(self) -> bool:
        """Commits the batch and what there is to say about gaps; False when that did not work."""
        try:
            connection = self._connected()
            if self._batch or self._lost:
                self._commit(connection)
            if time.monotonic() >= self._prune_at:
                self._prune(connection)
                self._prune_at = time.monotonic() + _PRUNE_EVERY_S
        except sqlite3.Error as error:
            if _code(error) in _DAMAGED:
                self._set_aside(error)
            else:
                self._failed(_words(error))
            return False
        except OSError as error:
            self._failed(error.strerror or str(error))
            return False
        if self._problem is not None:
            self._problem = None
            self._log.info("journal: %s: works again", self._file)
        return True

    def _commit(self, connection: sqlite3.Connection) -> None:
        with self._lost_lock:
            lost, since_ns = self._lost, self._lost_since_ns
        rows = [_row(entry) for entry in self._batch]
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_UPSERT, rows)
            if lost:
                self._gap(
                    connection, rfc3339(since_ns), lost, self._problem or "more than the journal can take"
                )
        self._batch.clear()
        with self._lost_lock:
            # What was lost during the commit is a gap of its own.
            self._lost -= lost
            self._lost_since_ns = self._utc_ns()

    def _gap(self, connection: sqlite3.Connection, since: str, lost: int | None, why: str) -> None:
        connection.execute(
            "INSERT INTO gaps (from_utc, to_utc, lost, why) VALUES (?, ?, ?, ?)",
            (since, rfc3339(self._utc_ns()), lost, why),
        )

    def _connected(self) -> sqlite3.Connection:
        """The open journal. Deleted or replaced by hand, it is opened anew: rows must not go nowhere."""
        if self._connection is not None:
            try:
                same = self._file.stat().st_ino == self._inode
            except FileNotFoundError:
                same = False
            if same:
                return self._connection
            self._log.warning(
                "journal: %s: was deleted or replaced; going on in what is there now", self._file
            )
            self._begins_after = "the journal before this one was deleted or replaced"
            self._disconnect()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._file, timeout=_BUSY_MS / 1000, isolation_level=None)
        try:
            # FULL: a commit is on disk when it returns, also in WAL mode.
            connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4000000;"
            )
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                self._open_run(connection)
            self._inode = self._file.stat().st_ino
        except (sqlite3.Error, OSError):
            connection.close()
            raise
        self._connection = connection
        self._begins_after = None
        return connection

    def _open_run(self, connection: sqlite3.Connection) -> None:
        """Opens this run, and marks the end of one that was not closed: its last moments may be missing."""
        unclosed = connection.execute("SELECT max(opened_utc) FROM runs WHERE closed_utc IS NULL").fetchone()[
            0
        ]
        if unclosed is not None:
            last = connection.execute("SELECT max(outcome_utc) FROM verdicts").fetchone()[0]
            self._gap(connection, max(unclosed, last or unclosed), None, "ended without closing the journal")
            connection.execute("DELETE FROM runs WHERE closed_utc IS NULL")
        if self._begins_after is not None:
            self._gap(connection, rfc3339(self._utc_ns()), None, self._begins_after)
        connection.execute("INSERT INTO runs (opened_utc) VALUES (?)", (rfc3339(self._utc_ns()),))

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Oldest first, in slices, so that no commit waits long for it."""
        limit = rfc3339(max(0, self._believed.now_ns() - self._keep_ns))
        over = connection.execute("SELECT count(*) FROM verdicts").fetchone()[0] - self._most_rows
        slice_ = (
            "DELETE FROM verdicts WHERE rowid IN "
            "(SELECT rowid FROM verdicts {} ORDER BY outcome_utc LIMIT {})"
        )
        while over > 0 and self._waiting.empty():
            over -= connection.execute(slice_.format("", min(over, _PRUNE_SLICE))).rowcount
        old = _PRUNE_SLICE
        while old == _PRUNE_SLICE and self._waiting.empty():
            old = connection.execute(slice_.format("WHERE outcome_utc < ?", _PRUNE_SLICE), (limit,)).rowcount
        connection.execute("DELETE FROM gaps WHERE to_utc < ?", (limit,))
        connection.execute("DELETE FROM runs WHERE closed_utc < ?", (limit,))
        for table in ("gaps", "runs"):
            connection.execute(
                f"DELETE FROM {table} WHERE rowid <= (SELECT max(rowid) FROM {table}) - ?", (self._most_rows,)
            )

    def _finish(self) -> bool:
        """Closes this run in the journal."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(
                "UPDATE runs SET closed_utc = ? WHERE closed_utc IS NULL", (rfc3339(self._utc_ns()),)
            )
        except sqlite3.Error as error:
            self._failed(_words(error))
            return False
        return True

    def _failed(self, why: str) -> None:
        """The first failure is said, and then its end."""
        if self._problem is None:
            self._log.error("journal: %s: %s; rejects go on without it", self._file, why)
        self._problem = f"journal: {self._file}: {why}"

    def _set_aside(self, error: sqlite3.Error) -> None:
        """A damaged file is kept for whoever wants to look, and a new one begun."""
        self._disconnect()
        aside = f"{self._file.name}.corrupt-{rfc3339(self._utc_ns()).replace(':', '')}"
        try:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self._file.with_name(self._file.name + suffix).rename(
                        self._file.with_name(aside + suffix)
                    )
            kept = sorted({p.name.removesuffix("-wal").removesuffix("-shm") for p in self._asides()})
            for file in self._asides():
                if not file.name.startswith(tuple(kept[-_MOST_SET_ASIDE:])):
                    file.unlink(missing_ok=True)
        except OSError as failure:
            self._failed(f"damaged, and can't be moved aside: {failure.strerror}")
            return
        self._log.error("journal: %s: damaged (%s); moved aside to %s", self._file, error, aside)
        self._begins_after = f"the journal before this one was damaged: {aside}"

    def _asides(self) -> list[Path]:
        return list(self._file.parent.glob(f"{self._file.name}.corrupt-*"))

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _row(entry: _Entry) -> tuple[object, ...]:
    payload = entry.event.payload(0)
    return (
        payload["event_id"],
        payload["session"],
        payload["camera"],
        payload["frame"],
        payload["verdict"],
        payload["reason"],
        payload["score"],
        payload["threshold"],
        payload["recipe"],
        payload["recipe_sha"],
        payload["captured_utc"],
        payload["decided_utc"],
        entry.outcome,
        rfc3339(entry.outcome_utc_ns),
        entry.ack_result,
        payload["snapshot"],
    )


def _code(error: sqlite3.Error) -> int | None:
    """The primary result code, or None for an error of the module's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _words(error: sqlite3.Error) -> str:
    known = {
        sqlite3.SQLITE_BUSY: "locked by another program: close whatever has it open for writing",
        sqlite3.SQLITE_LOCKED: "locked by another program: close whatever has it open for writing",
        sqlite3.SQLITE_FULL: "the disk is full: free some space",
        sqlite3.SQLITE_READONLY: "read-only: let the service's user write to it and its folder",
        sqlite3.SQLITE_CANTOPEN: "can't be opened: let the service's user write to its folder",
    }
    code = _code(error)
    return known.get(code, str(error)) if code is not None else str(error)
