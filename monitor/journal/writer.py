"""Writes the journal in SQLite: rejects and uninspected verdicts with their outcomes, and who changed what.

It knows nothing of the line: no decision depends on the journal. It never delays or stops its caller: calls
put rows into a queue, and a thread commits them within half a second. While the journal can't be written,
`problem` holds the cause. Rows wait in the queue; those that find it full are lost and are recorded as a gap
later.
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

from monitor.journal import changes, schema, tallies
from monitor.journal.pruning import prune
from monitor.journal.schema import NewerJournalError
from monitor.journal.sqlite_errors import explain_write_error, is_damage
from monitor.line_state.counts import Counts
from monitor.settings import JournalSettings, JournalVerdicts
from monitor.system.retention_clock import RetentionClock
from monitor.system.trouble_log import TroubleLog
from monitor.verdict import Event, Reason, Verdict, rfc3339

HELD = 10_000
"""The most rows that wait while the journal can't be written. Further rows are lost and counted."""
KILLED = "the service did not end properly: up to one second before its end may be missing"

LAST_TRY_S = 0.5
"""The time that `close` may take beyond its own limit, for a write that has already begun."""

_COMMIT_EVERY_S = 0.2
_RETRY_S = 0.5
_BATCH = 1_000
_SEEN_EVERY_S = 60.0
_PRUNE_EVERY_S = 600.0
_MOST_SET_ASIDE = 3
_BUSY_MS = 200
_EPISODE_NS = 60 * 1_000_000_000
_DAY_NS = 86_400 * 1_000_000_000

_COLUMNS = (
    "event_id",
    "session",
    "camera",
    "frame",
    "part",
    "verdict",
    "reason",
    "score",
    "threshold",
    "recipe",
    "recipe_sha",
    "captured_utc",
    "decided_utc",
    "outcome",
    "outcome_utc",
    "ack_result",
    "latency_ms",
    "snapshot",
    "challenge",
)
_INSERT = f"""
INSERT INTO verdicts ({", ".join(_COLUMNS)}) VALUES ({", ".join(f":{name}" for name in _COLUMNS)})
ON CONFLICT (event_id) DO UPDATE SET
    verdict = excluded.verdict, reason = excluded.reason, score = excluded.score,
    threshold = excluded.threshold, recipe = excluded.recipe, recipe_sha = excluded.recipe_sha,
    decided_utc = excluded.decided_utc, outcome = excluded.outcome, outcome_utc = excluded.outcome_utc,
    ack_result = coalesce(excluded.ack_result, ack_result),
    latency_ms = coalesce(excluded.latency_ms, latency_ms),
    snapshot = coalesce(excluded.snapshot, snapshot),
    challenge = coalesce(excluded.challenge, challenge)
"""
_INSERT_AGAIN = f"""{_INSERT}
WHERE verdicts.outcome = 'decided'
    OR (verdicts.outcome IN ('published', 'unheard') AND excluded.outcome NOT IN ('published', 'unknown'))
"""


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


class _Tally(NamedTuple):
    session: str
    camera: str
    slot_ns: int
    counts: Counts


_Entry = _Outcome | _Change | _InForce | _Tally

OnDifference = Callable[[str, str, str | None, str | None, str], None]
"""Called with the scope, what differs, its old and new value, and who changed it."""


class JournalWriter:
    """The journal, open for writing. The file and its folder are made if they are missing.

    `session`: the session of the service. A second writer of the same session, after the publisher was
    killed, continues the run of the first one without a gap, so its caller must put again all rows that the
    first one may have lost. `killed`: the whole session was killed, and this writer only adds its last rows.
    `held`: the most rows that wait. `utc_ns` is the clock, in nanoseconds. `on_difference` is called on the
    journal's thread, before the commit, with each value of `record_values` that differs from the last one.
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
        on_difference: OnDifference | None = None,
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
        self._trouble = TroubleLog(
            self._log,
            began="journal: %s; rejects go on without it",
            ended=f"journal: {file}: works again",
            log_changes=False,
        )
        self._retention_clock = RetentionClock(utc_ns, time.monotonic_ns)
        self._waiting: queue.Queue[_Entry] = queue.Queue(held)
        self._lost_lock = threading.Lock()
        self._lost = 0
        self._lost_since_ns = 0
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._batch: list[_Entry] = []
        self._why_new: str | None = None
        """Why a new file replaces the one before. It becomes the cause of a gap in the new file."""
        self._seen_due_s = 0.0
        self._prune_due_s = 0.0
        self._on_difference = on_difference
        self._told: set[tuple[int, str]] = set()
        """The differences of the present batch that `on_difference` got: a commit may be tried again."""
        self._closing = threading.Event()
        self._give_up_at = float("inf")
        self._all_written = False
        # A daemon thread: a disk that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the journal can't be written at present, in one line; None while it can be written."""
        return self._trouble.trouble or None

    @property
    def lost(self) -> int:
        """The number of rows lost since the last recorded gap."""
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
        """Records the outcome of an event, one of `recorder.OUTCOMES`. Returns at once and never raises.

        A later outcome of the same event replaces an earlier one. An outcome that is put `again`, from the
        ring, never replaces a final one. `latency_ms` is from capture to sending. Unless the settings require
        all verdicts, passes of production and most superseded frames are left out.
        """
        if self._all or self._is_recorded(event):
            self._hand_over(_Outcome(event, outcome, self._utc_ns(), ack_result, latency_ms, again))

    def record_change(self, what: str, old: str | None, new: str | None, who: str) -> None:
        """Adds a row to the record of changes. Returns at once and never raises.

        `what` is a path such as `camera.top.recipe`, `who` the MQTT topic or "service"; None is no value.
        """
        self._hand_over(_Change(self._utc_ns(), what, old, new, who))

    def record_values(self, scope: str, values: Mapping[str, str | SecretStr], who: str) -> None:
        """Adds to the record of changes the values that differ from those recorded last for the scope, by
        this service or an earlier one. Returns at once and never raises."""
        self._hand_over(_InForce(self._utc_ns(), scope, dict(values), who))

    def record_tally(self, session: str, camera: str, slot_ns: int, counts: Counts) -> None:
        """Records what a camera has judged since the session's start, as it is at the end of the slot of five
        minutes that began at `slot_ns`. Returns at once and never raises."""
        self._hand_over(_Tally(session, camera, slot_ns, counts))

    def _is_recorded(self, event: Event) -> bool:
        """Whether the journal records the event where the settings do not require all verdicts. Passes are
        left out. A superseded frame is recorded only if its camera had no other one within the last
        minute."""
        if event.reason is not Reason.SUPERSEDED:
            return event.verdict is not Verdict.PASS or event.challenge is not None
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
        """Writes the waiting rows and closes the file, within `timeout_s` plus `LAST_TRY_S`. Returns whether
        all rows are on disk."""
        self._give_up_at = time.monotonic() + timeout_s
        self._closing.set()
        self._thread.join(timeout_s + LAST_TRY_S)
        return self._all_written

    # Called on the journal's thread only

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
            self._all_written = self._close_run() and done and self._lost == 0
        finally:
            self._disconnect()
            if not self._closing.is_set():
                self._report("its thread has ended")

    def _pause(self) -> None:
        if self._closing.is_set():
            time.sleep(0.02)
        else:
            self._closing.wait(_RETRY_S)

    def _gather(self) -> None:
        """Collects waiting rows into a batch, for up to 0.2 s."""
        until = time.monotonic() + _COMMIT_EVERY_S
        while len(self._batch) < _BATCH and not (self._closing.is_set() and self._waiting.empty()):
            left = until - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(queue.Empty):
                self._batch.append(self._waiting.get(timeout=left))

    def _write_out(self) -> bool:
        """Commits the batch and the gap, and deletes old rows. Returns whether that worked."""
        try:
            connection = self._connect()
            if self._batch or self._lost or time.monotonic() >= self._seen_due_s:
                self._commit(connection)
                self._seen_due_s = time.monotonic() + _SEEN_EVERY_S
            if time.monotonic() >= self._prune_due_s and self._prune(connection):
                self._prune_due_s = time.monotonic() + _PRUNE_EVERY_S
        except sqlite3.Error as error:
            if is_damage(error):
                self._set_aside(error)
            else:
                self._report(explain_write_error(error))
            return False
        except NewerJournalError as error:
            self._report(str(error))
            return False
        except OSError as error:
            self._report(error.strerror or str(error))
            return False
        self._trouble.report("")
        return True

    def _report(self, why: str) -> None:
        self._trouble.report(f"{self._file}: {why}")

    def _prune(self, connection: sqlite3.Connection) -> bool:
        limit_ns = max(0, self._retention_clock.now_ns() - self._keep_ns)
        return prune(connection, rfc3339(limit_ns), self._most_bytes)

    def _commit(self, connection: sqlite3.Connection) -> None:
        with self._lost_lock:
            lost, since_ns = self._lost, self._lost_since_ns
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for entry in self._batch:
                self._write(connection, entry)
            if not self._killed:
                connection.execute(
                    "UPDATE runs SET seen_utc = ? WHERE closed_utc IS NULL", (rfc3339(self._utc_ns()),)
                )
            if lost:
                why = self.problem or "more rows came than the journal can write"
                self._add_gap(connection, rfc3339(since_ns), lost, why)
        self._batch.clear()
        self._told.clear()
        with self._lost_lock:
            # Rows that were lost during the commit belong to the next gap.
            self._lost -= lost
            self._lost_since_ns = self._utc_ns()

    def _write(self, connection: sqlite3.Connection, entry: _Entry) -> None:
        match entry:
            case _Outcome():
                connection.execute(_INSERT_AGAIN if entry.again else _INSERT, _row(entry))
            case _Change():
                utc = rfc3339(entry.utc_ns)
                changes.add(connection, utc, entry.what, entry.old, entry.new, entry.who)
            case _InForce():
                utc = rfc3339(entry.utc_ns)
                for difference in changes.compare(connection, utc, entry.scope, entry.values, entry.who):
                    self._tell(entry, difference)
            case _Tally():
                tallies.write(connection, entry.session, entry.camera, entry.slot_ns, entry.counts)

    def _tell(self, entry: _InForce, difference: changes.Difference) -> None:
        key = (entry.utc_ns, difference.what)
        if self._on_difference is not None and key not in self._told:
            self._on_difference(entry.scope, *difference, entry.who)
            self._told.add(key)

    def _add_gap(self, connection: sqlite3.Connection, since: str, lost: int | None, why: str) -> None:
        connection.execute(
            "INSERT INTO gaps (from_utc, to_utc, lost, why) VALUES (?, ?, ?, ?)",
            (since, rfc3339(self._utc_ns()), lost, why),
        )

    def _connect(self) -> sqlite3.Connection:
        """The open journal. When its file has been deleted or replaced, the file at its path is opened again
        or made: rows in a deleted file would be lost."""
        if self._connection is not None:
            try:
                same = self._file.stat().st_ino == self._inode
            except FileNotFoundError:
                same = False
            if same:
                return self._connection
            self._log.warning("journal: %s: was deleted or replaced; it is opened again", self._file)
            self._why_new = "the journal before this one was deleted or replaced"
            self._disconnect()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._file, timeout=_BUSY_MS / 1000, isolation_level=None)
        try:
            # With FULL a commit is on disk when it returns. It is set because an SQLite build may have
            # another default.
            connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4000000;"
            )
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                schema.bring_up_to_date(connection)
                self._open_run(connection)
            self._inode = self._file.stat().st_ino
        except (sqlite3.Error, OSError, NewerJournalError):
            connection.close()
            raise
        self._connection = connection
        self._why_new = None
        return connection

    def _open_run(self, connection: sqlite3.Connection) -> None:
        """Adds this run's row to the table `runs`, unless an earlier writer of this session has added it or
        the session was killed.

        A run of another session that is not closed was killed: it is closed with the last time that the
        journal holds of it, and a gap is recorded, since its last rows may be missing.
        """
        if self._why_new is not None:
            self._add_gap(connection, rfc3339(self._utc_ns()), None, self._why_new)
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
            self._add_gap(connection, seen, None, KILLED)
            connection.execute("UPDATE runs SET closed_utc = ?, killed = 1 WHERE rowid = ?", (seen, rowid))
        if not self._killed:
            connection.execute(
                "INSERT INTO runs (opened_utc, session) VALUES (?, ?)",
                (rfc3339(self._utc_ns()), self._session),
            )

    def _close_run(self) -> bool:
        """Records the end of this run. Returns whether that worked."""
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
            self._report(explain_write_error(error))
            return False
        return True

    def _set_aside(self, error: sqlite3.Error) -> None:
        """Renames a damaged file, so that a new one can be begun. The three newest damaged files are kept for
        inspection."""
        self._disconnect()
        aside = f"{self._file.name}.corrupt-{rfc3339(self._utc_ns()).replace(':', '')}"
        try:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self._file.with_name(self._file.name + suffix).rename(
                        self._file.with_name(aside + suffix)
                    )
            damaged = list(self._file.parent.glob(f"{self._file.name}.corrupt-*"))
            kept = sorted({file.name.removesuffix("-wal").removesuffix("-shm") for file in damaged})
            for file in damaged:
                if not file.name.startswith(tuple(kept[-_MOST_SET_ASIDE:])):
                    file.unlink(missing_ok=True)
        except OSError as failure:
            self._report(f"damaged, and can't be moved aside: {failure.strerror}")
            return
        self._log.error("journal: %s: damaged (%s); moved aside to %s", self._file, error, aside)
        self._why_new = f"the journal before this one was damaged: {aside}"

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _row(entry: _Outcome) -> dict[str, object]:
    return {
        **entry.event.payload(0),
        "outcome": entry.outcome,
        "outcome_utc": rfc3339(entry.utc_ns),
        "ack_result": entry.ack_result,
        "latency_ms": entry.latency_ms,
    }
