"""`P/status` and the heartbeat: the rules for the run permission `ready`, and the publishing.

It knows nothing of single frames. The rules are a pure function of what the board and the journal report. A
status is sent when it changes and on each new connection, the heartbeat every second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor.journal.writer import JournalWriter
from monitor.line_state.board import Board, CameraState, Field
from monitor.line_state.counts import count_parts
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import NO_PARTS, LatchedParts
from monitor.line_state.ring import Ring
from monitor.line_state.worker_process import PUBLISH, SCORING, SUPERVISOR, Worker, capture_name, worker_names
from monitor.publish.broker_client import Will
from monitor.publish.change_record import NOT_READ, ChangeRecord, RecordState
from monitor.publish.latch import LineLatch
from monitor.publish.mqtt_connection import Link, LinkState
from monitor.publish.other_session import OtherSessionGuard
from monitor.publish.short_payload import HEARTBEAT_EXTRAS, STATUS_EXTRAS, encode_short
from monitor.settings import CameraSettings, Mode, Settings
from monitor.verdict import SCHEMA, rfc3339

_MS = 1_000_000
_STATUS_NS = 50 * _MS
_HEARTBEAT_NS = 1000 * _MS
_REPEAT_NS = 1000 * _MS


class OperatingState(StrEnum):
    STARTING = "starting"
    INSPECTING = "inspecting"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class LineHealth:
    """The state of cameras, workers and journal, from the board and the journal's writer."""

    cameras: Mapping[str, CameraState]
    """The camera of a dead or stuck capture worker is lost."""
    is_scorer_started: bool
    is_scorer_fresh: bool
    without_recipe: frozenset[str]
    """Cameras that the scoring worker has no recipe for."""
    latch: Latch
    failing: frozenset[str]
    """Workers that have died too often within the last minute, by a fault or killed from outside."""
    drifting: frozenset[str]
    """Cameras whose good parts no longer score as they did at calibration."""
    is_journal_failing: bool
    """The journal can't be written at present."""
    is_stopping: bool
    without_time: frozenset[str] = frozenset()
    """Live views for which the parts leave no time."""
    is_challenged: bool = False
    """A challenge with known parts is due or has failed."""


@dataclass(frozen=True, slots=True)
class LineStatus:
    """The fields of `P/status` that follow from the rules."""

    state: OperatingState
    ready: bool
    reason: str | None


OFFLINE = LineStatus(OperatingState.OFFLINE, False, "offline")


def decide_status(cameras: tuple[CameraSettings, ...], health: LineHealth) -> LineStatus:
    """The line's status. `ready` is the run permission: every `every-part` camera is up and has its recipe,
    the scorer is fresh, no latch is set, and no challenge is due or has failed."""
    if health.is_stopping:
        return LineStatus(OperatingState.STOPPED, False, "stopped")
    gated = [camera.name for camera in cameras if camera.mode is Mode.EVERY_PART]
    reason = _find_reason_not_ready(gated, health)
    if reason is None:
        trouble = _find_other_trouble([camera.name for camera in cameras], health)
        state = OperatingState.DEGRADED if trouble else OperatingState.INSPECTING
        return LineStatus(state, True, trouble)
    if health.latch is Latch.NONE and reason in ("starting", "camera_starting"):
        return LineStatus(OperatingState.STARTING, False, reason)
    return LineStatus(OperatingState.DEGRADED, False, reason)


def _find_reason_not_ready(gated: list[str], health: LineHealth) -> str | None:
    if health.latch is not Latch.NONE:
        return health.latch.word
    if not health.is_scorer_started:
        return "starting"
    if not health.is_scorer_fresh:
        return "scorer_lost"
    if any(name in health.without_recipe for name in gated):
        return "no_recipe"
    for state in (CameraState.LOST, CameraState.FROZEN, CameraState.UNDATED, CameraState.STARTING):
        if any(health.cameras[name] is state for name in gated):
            return f"camera_{state.word}"
    return "challenge" if health.is_challenged else None


def _find_other_trouble(names: list[str], health: LineHealth) -> str | None:
    """Trouble that an operator should check, but that does not remove the run permission."""
    if any(health.cameras[name] in (CameraState.LOST, CameraState.FROZEN) for name in names):
        return "camera_lost"
    if any(health.cameras[name] is CameraState.UNDATED for name in names):
        return "camera_undated"
    if any(name in health.without_recipe for name in names):
        return "no_recipe"
    if health.failing:
        return "worker_failing"
    if health.drifting:
        return "drift"
    if health.is_journal_failing:
        return "journal"
    if health.without_time:
        return "no_time"
    return None


@dataclass(frozen=True, slots=True)
class _Report:
    """The content of `P/status` without the session and the time."""

    status: LineStatus
    cameras: Mapping[str, CameraState]
    drifting: frozenset[str]
    journal: str | None
    """`ok`, or why the journal can't be written; None once the service is offline."""
    latched: LatchedParts = NO_PARTS
    """The parts for which the line is latched."""
    page: str | None = None
    """The address of the operators' page, for links."""
    without_time: frozenset[str] = frozenset()
    changes: RecordState = NOT_READ
    """The record of changes."""
    challenge: Mapping[str, object] | None = None
    """Where the challenge stands; None for a line without challenge parts."""

    def encode(self, session: str, utc_ns: int, most: int | None = None) -> bytes:
        """The payload, without some fields where it would have more than `most` bytes."""
        payload = {
            "schema": SCHEMA,
            "state": self.status.state.value,
            "ready": self.status.ready,
            "reason": self.status.reason,
            "session": session,
            "utc": rfc3339(utc_ns),
            "cameras": {name: state.word for name, state in self.cameras.items()},
            "drift": sorted(self.drifting),
            "journal": self.journal,
            "latched": self.latched.payload(self.page),
            "without_time": sorted(self.without_time),
            "audit": self._audit(),
            "challenge": self.challenge,
        }
        return encode_short(payload, STATUS_EXTRAS, most)

    def _audit(self) -> dict[str, object] | None:
        """The newest head of the record of changes. A reader that keeps it can tell later whether the record
        was cut."""
        head = self.changes.head
        if head is None:
            return None
        return {"head": head.hash, "count": head.count, "problem": self.changes.problem}


def make_will(settings: Settings, session: str, utc_ns: Callable[[], int]) -> Will:
    """The status that the broker publishes when the publisher's connection breaks."""
    lost = {camera.name: CameraState.LOST for camera in settings.camera}
    report = _Report(OFFLINE, lost, frozenset(), None)
    now = utc_ns()
    short = report.encode(session, now, most=0)
    return Will(f"{settings.prefix}/status", report.encode(session, now), short_payload=short)


class StatusPublisher:
    """Publishes status and heartbeat, and writes the publisher's fields on the board. `utc_ns` is the
    clock."""

    def __init__(
        self,
        worker: Worker,
        link: Link,
        journal: JournalWriter,
        latch: LineLatch,
        utc_ns: Callable[[], int],
        guard: OtherSessionGuard,
        changes: ChangeRecord,
    ) -> None:
        self._worker, self._board, self._settings = worker, worker.board, worker.settings
        self._link, self._journal, self._latch, self._utc_ns = link, journal, latch, utc_ns
        self._guard, self._changes = guard, changes
        self._session = str(worker.session)
        self._published: tuple[int, _Report] | None = None
        """The last report, with the number of the connection over which it was sent."""
        self._repeat_ns = 0
        """When the status is due again, at a broker that keeps no retained messages."""
        self._limitations: tuple[str, ...] = ()
        self._warnings: tuple[str, ...] = ()
        """Those of them that the status shows."""
        self._trouble = "not connected yet"
        self._status_due_ns = self._heartbeat_due_ns = 0

    def step(
        self,
        now: int,
        stopping: bool,
        challenge: Mapping[str, object] | None = None,
        part_rings: Sequence[Ring] = (),
    ) -> bool:
        """Publishes the status and the heartbeat that are due; `challenge` goes into the status, the counts
        of `part_rings` into the heartbeat. Returns whether a status was due on a connection: the caller then
        sends other messages that are not verdicts, so at most every 50 ms."""
        self._report_connection()
        if now < self._status_due_ns and not stopping:
            return False
        self._status_due_ns = now + _STATUS_NS
        problem = self._journal.problem
        self._board.write(PUBLISH, Field.JOURNAL_FAILING, problem is not None)
        health = read_health(self._board, self._settings, now, is_stopping=stopping)
        status = decide_status(self._settings.camera, health)
        if self._link.state is not LinkState.UP:
            self._board.write(PUBLISH, Field.READY, 0)
            return False
        if not self._board.read(PUBLISH, Field.EVER_CONNECTED):
            self._board.write(PUBLISH, Field.EVER_CONNECTED, now)
        report = _Report(
            status,
            health.cameras,
            health.drifting,
            problem or "ok",
            self._latch.parts,
            self._settings.review.address,
            health.without_time,
            self._changes.state,
            challenge,
        )
        if stopping or self._latch.may_be_published(now):
            self._publish(report, now)
        self._board.write(PUBLISH, Field.READY, status.ready and self._is_ready_published())
        if now >= self._heartbeat_due_ns:
            self._publish_heartbeat(now, status.ready, part_rings)
        return True

    def _report_connection(self) -> None:
        """Writes trouble with the broker to the board, and logs one line when it starts, changes or ends."""
        trouble, is_up = self._link.trouble or self._link.refusal(), self._link.state is LinkState.UP
        warnings = self._guard.warnings if is_up else self._warnings
        if trouble != self._trouble and (trouble or is_up):
            if trouble:
                self._worker.log.error("%s", trouble)
            else:
                self._worker.log.info("connected to the broker")
            self._trouble = trouble
            self._board.write_trouble(PUBLISH, "; ".join(filter(None, (trouble, *warnings))))
        if self._warnings != warnings:
            self._board.write_trouble(PUBLISH, "; ".join(filter(None, (trouble, *warnings))))
        limitations = self._link.limitations + warnings
        for limitation in [one for one in limitations if one not in self._limitations]:
            self._worker.log.warning("%s", limitation)
        self._limitations, self._warnings = limitations, warnings

    def _publish(self, report: _Report, now: int) -> None:
        """Publishes the report if it has changed or the connection is new, and the broker has room; every
        second where the broker keeps no retained messages."""
        current = (self._link.generation, report)
        is_due = not self._link.keeps_retained and now >= self._repeat_ns
        if (current == self._published and not is_due) or not self._link.room(reserved=0):
            return
        topic = f"{self._settings.prefix}/status"
        payload = report.encode(self._session, self._utc_ns(), self._link.payload_room(topic))
        if self._link.send(topic, payload, retain=True) is None:
            return
        self._repeat_ns = now + _REPEAT_NS
        status = report.status
        if self._published is None or self._published[1].status != status:
            reason = f": {status.reason}" if status.reason else ""
            ready = "ready" if status.ready else "not ready"
            self._worker.log.info("the line is %s, %s%s", status.state, ready, reason)
        self._published = current

    def _is_ready_published(self) -> bool:
        """Whether the last status over the present connection gave the run permission."""
        if self._published is None:
            return False
        generation, report = self._published
        return generation == self._link.generation and report.status.ready

    def _publish_heartbeat(self, now: int, ready: bool, part_rings: Sequence[Ring]) -> None:
        # The next heartbeat is due one second after this one was due, not after now, so that the average
        # stays at one per second. Heartbeats that a gap of more than a second has skipped are not sent later.
        self._heartbeat_due_ns += _HEARTBEAT_NS
        if self._heartbeat_due_ns <= now:
            self._heartbeat_due_ns = now + _HEARTBEAT_NS
        beats = self._board.read(PUBLISH, Field.BEATS) + 1
        self._board.write(PUBLISH, Field.BEATS, beats)
        payload = {
            "schema": SCHEMA,
            "n": beats,
            "ready": ready,
            "session": self._session,
            "utc": rfc3339(self._utc_ns()),
            "counts": count_parts(part_rings),
        }
        topic = f"{self._settings.prefix}/heartbeat"
        most = self._link.payload_room(topic, qos=0)
        self._link.send(topic, encode_short(payload, HEARTBEAT_EXTRAS, most), qos=0)


def read_health(board: Board, settings: Settings, now: int, *, is_stopping: bool = False) -> LineHealth:
    """What the rules need to know, from the board. `now` is CLOCK_MONOTONIC nanoseconds."""
    is_scorer_fresh = board.is_fresh(SCORING, now)
    failing = board.read(SUPERVISOR, Field.FAILING)
    drifting = board.read(SCORING, Field.DRIFT_HIGHER) | board.read(SCORING, Field.DRIFT_LOWER)
    return LineHealth(
        cameras={camera.name: read_camera(board, camera.name, now) for camera in settings.camera},
        is_scorer_started=bool(board.read(SCORING, Field.EVER_RAN)),
        is_scorer_fresh=is_scorer_fresh,
        without_recipe=_name_cameras(settings, board.read(SCORING, Field.WITHOUT_RECIPE)),
        latch=Latch(board.read(PUBLISH, Field.LATCH)),
        failing=frozenset(name for i, name in enumerate(worker_names(settings)) if failing >> i & 1),
        # The measurement of a dead scoring worker may be out of date.
        drifting=_name_cameras(settings, drifting if is_scorer_fresh else 0),
        without_time=_name_cameras(
            settings, board.read(SCORING, Field.WITHOUT_TIME) if is_scorer_fresh else 0
        ),
        is_challenged=bool(board.read(PUBLISH, Field.CHALLENGE_HOLD)),
        is_journal_failing=bool(board.read(PUBLISH, Field.JOURNAL_FAILING)),
        is_stopping=is_stopping or bool(board.read(SUPERVISOR, Field.STOPPING)),
    )


def read_camera(board: Board, name: str, now: int) -> CameraState:
    """A camera's state. The camera of a dead or stuck capture worker is lost."""
    worker = capture_name(name)
    if board.read(worker, Field.EVER_RAN) and not board.is_fresh(worker, now):
        return CameraState.LOST
    return board.camera_state(worker)


def _name_cameras(settings: Settings, bits: int) -> frozenset[str]:
    """The cameras whose bits are set, by their place in the settings."""
    return frozenset(camera.name for i, camera in enumerate(settings.camera) if bits >> i & 1)
