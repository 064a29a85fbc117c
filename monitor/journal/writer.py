"""The journal: every reject and uninspected verdict, what became of it, and who changed what, in SQLite.

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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from monitor.journal import changes, schema
from monitor.journal.schema import CHANGES_KEPT, TooNew
from monitor.settings import JournalSettings, JournalVerdicts
from monitor.system.retention_clock import BelievedUtc
from monitor.verdict import Event, Reason, Verdict, rfc3339

HELD = 10_000
"""Rows that wait for a journal that can't be written; later ones are counted as lost."""
KILLED = "the service did not end properly: up to one second before its end may be missing"

LAST_TRY_S = 0.5
"""How much longer `close` may take than it is given, for a write that was under way."""

_COMMIT_EVERY_S = 0.2
_RETRY_S = 0.5
_BATCH = 1_000
_SEEN_EVERY_S = 60.0
_PRUNE_EVERY_S = 600.0
_PRUNE_SLICE = 5_000
_MOST_GAPS = 100_000
_MOST_SET_ASIDE = 3
_BUSY_MS = 200
_EPISODE_NS = 60 * 1_000_000_000
_DAY_NS = 86_400 * 1_000_000_000

_INSERT = """
INSERT INTO verdicts (event_id, session, camera, frame, part, verdict, reason, score, threshold, recipe,
                      recipe_sha, captured_utc, decided_utc, outcome, outcome_utc, ack_result, latency_ms,
                      snapshot)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO UPDATE SET
    verdict = excluded.verdict, reason = excluded.reason, score = excluded.score,
    threshold = excluded.threshold, recipe = excluded.recipe, recipe_sha = excluded.recipe_sha,
    decided_utc = excluded.decided_utc, outcome = excluded.outcome, outcome_utc = excluded.outcome_utc,
    ack_result = coalesce(excluded.ack_result, ack_result),
    latency_ms = coalesce(excluded.latency_ms, latency_ms),
    snapshot = coalesce(excluded.snapshot, snapshot)
"""
_INSERT_AGAIN = (
    _INSERT
    + """
WHERE verdicts.outcome = 'decided'
    OR (verdicts.outcome IN ('published', 'unheard') AND excluded.outcome NOT IN ('published', 'unknown'))
"""
)

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class _Outcome(NamedTuple):
    event: Event
    outcome: str
    utc_ns: int
    ack_result: str | None
    latency_ms: float | None
    again: bool


class _Change(NamedTuple):
    utc_ns: int
    what: str
    old: str | None
    new: str | None
    who: str


class _InForce(NamedTuple):
    utc_ns: int
    scope: str
    values: Mapping[str, str | SecretStr]
    who: str


_Entry = _Outcome | _Change | _InForce


class Journal:
    """`file` is made with its folder where missing. `utc_ns` is the clock, in nanoseconds.

    Who comes back with the same `session` promises to put `again` what its predecessor may not have had
    written; only then is the end of a predecessor that was killed no gap. `killed` says that this session
    has ended, and not properly: only its last rows are still to come.
    """

    def __init__(
        self,
        file: Path,
        settings: JournalSettings,
        *,
        session: str | None = None,
        killed: bool = False,
        utc_ns: Callable[[], int] = time.time_ns,
        held: int = HELD,
        log: logging.Logger | None = None,
    ) -> None:
        self._file = file
        self._session = session
        self._killed = killed
        self._utc_ns = utc_ns
        self._all = settings.verdicts is JournalVerdicts.ALL
        self._keep_ns = round(settings.keep_days * _DAY_NS)
        self._most_bytes = round(settings.max_gb * 1e9)
        self._superseded_ns: dict[str, int] = {}
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
        self._seen_at = 0.0
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

    def put(
        self,
        event: Event,
        outcome: str,
        ack_result: str | None = None,
        *,
        latency_ms: float | None = None,
        again: bool = False,
    ) -> None:
        """Notes what became of an event, in a word of `recorder.OUTCOMES`.

        Returns at once and never raises. The last outcome put for an event stands; one that is put `again`,
        from the ring, yields to any that is final already. `latency_ms` is from capture to sending. Unless
        all verdicts are wanted a pass isn't noted, and of a live view's superseded frames only the first of
        an episode.
        """
        if self._all or self._is_problem(event):
            self._hand_over(_Outcome(event, outcome, self._utc_ns(), ack_result, latency_ms, again))

    def changed(self, what: str, old: str | None, new: str | None, who: str) -> None:
        """Adds to the record of changes: `what` as a path like `camera.top.recipe`, None for no value, `who`
        the MQTT topic or "service". Returns at once and never raises."""
        self._hand_over(_Change(self._utc_ns(), what, old, new, who))

    def in_force(self, scope: str, values: Mapping[str, str | SecretStr], who: str) -> None:
        """Adds to the record of changes whatever differs from the same scope's values as given last, by this
        service or one before it. Returns at once and never raises."""
        self._hand_over(_InForce(self._utc_ns(), scope, dict(values), who))

    def _is_problem(self, event: Event) -> bool:
        if event.reason is not Reason.SUPERSEDED:
            return event.verdict is not Verdict.PASS
        now = time.monotonic_ns()
        last = self._superseded_ns.get(event.camera)
        self._superseded_ns[event.camera] = now
        return last is None or now - last > _EPISODE_NS

    def _hand_over(self, entry: _Entry) -> None:
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            with self._lost_lock:
                if self._lost == 0:
                    self._lost_since_ns = self._utc_ns()
                self._lost += 1

    def close(self, timeout_s: float = 2.0) -> bool:
        """Writes what waits and closes the file, within `timeout_s` and `LAST_TRY_S`. True when
        everything is on disk."""
        self._give_up_at = time.monotonic() + timeout_s
        self._closing.set()
        self._thread.join(timeout_s + LAST_TRY_S)
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
                self._problem = f"{self._file}: its thread has ended"

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
            if self._batch or self._lost or time.monotonic() >= self._seen_at:
                self._commit(connection)
                self._seen_at = time.monotonic() + _SEEN_EVERY_S
            if time.monotonic() >= self._prune_at and self._prune(connection):
                self._prune_at = time.monotonic() + _PRUNE_EVERY_S
        except sqlite3.Error as error:
            if _code(error) in _DAMAGED:
                self._set_aside(error)
            else:
                self._failed(_words(error))
            return False
        except TooNew as error:
            self._failed(str(error))
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
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for entry in self._batch:
                _write(connection, entry)
            if not self._killed:
                connection.execute(
                    "UPDATE runs SET seen_utc = ? WHERE closed_utc IS NULL", (rfc3339(self._utc_ns()),)
                )
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
                schema.bring_up_to_date(connection)
                self._open_run(connection)
            self._inode = self._file.stat().st_ino
        except (sqlite3.Error, OSError, TooNew):
            connection.close()
            raise
        self._connection = connection
        self._begins_after = None
        return connection

    def _open_run(self, connection: sqlite3.Connection) -> None:
        """Opens this run, and marks the end of one that was not closed: its last moments may be missing."""
        if self._begins_after is not None:
            self._gap(connection, rfc3339(self._utc_ns()), None, self._begins_after)
        unclosed = list(
            connection.execute(
                "SELECT rowid, session, coalesce(seen_utc, opened_utc) FROM runs WHERE closed_utc IS NULL"
            )
        )
        for rowid, session, seen in unclosed:
            if session is not None and session == self._session:
                return
            last = connection.execute("SELECT max(outcome_utc) FROM verdicts").fetchone()[0]
            seen = max(seen, last or seen)
            self._gap(connection, seen, None, KILLED)
            connection.execute("UPDATE runs SET closed_utc = ?, killed = 1 WHERE rowid = ?", (seen, rowid))
        if not self._killed:
            connection.execute(
                "INSERT INTO runs (opened_utc, session) VALUES (?, ?)",
                (rfc3339(self._utc_ns()), self._session),
            )

    def _prune(self, connection: sqlite3.Connection) -> bool:
        """Deletes a slice of what is too old or too much, the oldest first; no commit waits long for it.
        Where there is too much, what nobody had to act on goes first. True when nothing is left to delete."""
        limit = rfc3339(max(0, self._believed.now_ns() - self._keep_ns))
        if _delete(connection, "outcome_utc < ? ORDER BY outcome_utc", limit) == _PRUNE_SLICE:
            return False
        for condition in ("verdict = 'pass' OR reason = 'superseded'", "true"):
            if _bytes(connection) > self._most_bytes and _delete(connection, f"{condition} ORDER BY rowid"):
                return False
        connection.execute("DELETE FROM gaps WHERE to_utc < ?", (limit,))
        connection.execute("DELETE FROM runs WHERE closed_utc < ?", (limit,))
        for table, most in (("gaps", _MOST_GAPS), ("runs", _MOST_GAPS), ("changes", CHANGES_KEPT)):
            connection.execute(
                f"DELETE FROM {table} WHERE rowid <= (SELECT max(rowid) FROM {table}) - ?", (most,)
            )
        return True

    def _finish(self) -> bool:
        """Closes this run in the journal."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(
                "UPDATE runs SET killed = :killed, "
                "closed_utc = CASE WHEN :killed THEN coalesce(seen_utc, opened_utc) ELSE :now END "
                "WHERE closed_utc IS NULL",
                {"killed": self._killed, "now": rfc3339(self._utc_ns())},
            )
        except sqlite3.Error as error:
            self._failed(_words(error))
            return False
        return True

    def _failed(self, why: str) -> None:
        """The first failure is said, and then its end."""
        if self._problem is None:
            self._log.error("journal: %s: %s; rejects go on without it", self._file, why)
        self._problem = f"{self._file}: {why}"

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


def _delete(connection: sqlite3.Connection, condition: str, *values: str) -> int:
    """Deletes one slice of verdicts; returns how many there were."""
    return connection.execute(
        "DELETE FROM verdicts WHERE rowid IN "
        f"(SELECT rowid FROM verdicts WHERE {condition} LIMIT {_PRUNE_SLICE})",
        values,
    ).rowcount


def _bytes(connection: sqlite3.Connection) -> int:
    """By the pages in use: the file keeps those that pruning has freed, and fills them again."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _write(connection: sqlite3.Connection, entry: _Entry) -> None:
    match entry:
        case _Outcome():
            connection.execute(_INSERT_AGAIN if entry.again else _INSERT, _row(entry))
        case _Change():
            changes.add(connection, rfc3339(entry.utc_ns), entry.what, entry.old, entry.new, entry.who)
        case _InForce():
            changes.compare(connection, rfc3339(entry.utc_ns), entry.scope, entry.values, entry.who)


def _row(entry: _Outcome) -> tuple[object, ...]:
    payload = entry.event.payload(0)
    return (
        payload["event_id"],
        payload["session"],
        payload["camera"],
        payload["frame"],
        payload["part"],
        payload["verdict"],
        payload["reason"],
        payload["score"],
        payload["threshold"],
        payload["recipe"],
        payload["recipe_sha"],
        payload["captured_utc"],
        payload["decided_utc"],
        entry.outcome,
        rfc3339(entry.utc_ns),
        entry.ack_result,
        entry.latency_ms,
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
