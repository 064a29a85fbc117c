"""The publisher's loop: closes every frame with one verdict and sends it in time, or not at all.

It knows nothing of images and scoring. On a frame's way it stands between the scoring worker and the gateway.
A verdict is written to the ring before it is sent, and its stage is written when its delivery has ended. So
the publisher that follows a killed one continues the deliveries that had not ended. The loop must never wait
for a disk, a snapshot or the broker, and must never send a verdict that the gate can no longer act on.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from functools import partial

import zmq

from monitor import paths
from monitor.audit.trail import AuditTrail
from monitor.journal.recorder import Recorder
from monitor.journal.writer import LAST_TRY_S, JournalWriter
from monitor.line_state import messages, reset_request
from monitor.line_state.board import Field
from monitor.line_state.frame import Frame
from monitor.line_state.latch_file import Latch
from monitor.line_state.live_settings import read_live_settings
from monitor.line_state.ring import FinalVerdict, Ring
from monitor.line_state.verdict_rules import PublisherTurn
from monitor.line_state.worker_process import PUBLISH, SCORING, SUPERVISOR, Worker
from monitor.publish.broker_client import Subscriptions
from monitor.publish.camera_frames import CameraFrames
from monitor.publish.change_record import ChangeRecord, make_recorder
from monitor.publish.changeover_requests import ChangeoverRequests
from monitor.publish.delivery import Deliveries
from monitor.publish.latch import LineLatch
from monitor.publish.line_challenge import LineChallenge
from monitor.publish.mqtt_connection import Link, LinkState, PacketNeeds
from monitor.publish.other_session import OtherSessionGuard
from monitor.publish.reject_watch import RejectWatch
from monitor.publish.set_requests import SetRequests
from monitor.publish.short_payload import measure_verdicts
from monitor.publish.status import StatusPublisher, make_will
from monitor.publish.unusable_images import ImageWatch
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Event, Reason, Verdict, rfc3339

_MS = 1_000_000
_TURN_MS = 10
"""The longest wait between two turns."""
_STOP_NS = 1200 * _MS
"""The longest time for closing frames, sending and the last status at the end."""
_LAST_STATUS_NS = 300 * _MS
"""The part of `_STOP_NS` that is kept for the last status."""
_JOURNAL_S, _LATCH_S, _CHALLENGE_S, _CHANGES_S = 0.6, 0.1, 0.02, 0.2
_RECORD_WAIT_S = 0.2
"""The longest time for which the journal waits for an entry in the record of changes."""
LONGEST_STOP_S = _STOP_NS / 1e9 + _LATCH_S + _CHALLENGE_S + _JOURNAL_S + LAST_TRY_S + _CHANGES_S
"""The longest time for an orderly stop, when broker, gateway and disk are all slow."""


class Publisher:
    """The publisher of one line. `clock` is CLOCK_MONOTONIC, `utc_ns` UTC, both in nanoseconds; a test gives
    a `link` of its own."""

    def __init__(
        self,
        worker: Worker,
        clock: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
        link: Link | None = None,
    ) -> None:
        self._worker, self._clock, self._utc_ns = worker, clock, utc_ns
        settings, session = worker.settings, str(worker.session)
        # Parts come first: in each turn their frames are closed and sent before those of the live views.
        parts_first = sorted(settings.camera, key=lambda camera: camera.mode is Mode.LATEST)
        self._cameras = [CameraFrames(camera, worker) for camera in parts_first]
        self._part_rings = [one.ring for one in self._cameras if one.camera.mode is Mode.EVERY_PART]
        self._reject_watches = {camera.name: RejectWatch(camera) for camera in settings.camera}
        self._image_watches = {
            one.camera.name: ImageWatch(one.camera.name, one.ring, worker.board, worker.log)
            for one in self._cameras
        }
        self._changes = ChangeRecord(AuditTrail.of(settings, worker.log), worker.log)
        self._journal = JournalWriter(
            paths.journal(settings),
            settings.journal,
            session=session,
            on_difference=make_recorder(self._changes, lambda: rfc3339(utc_ns()), _RECORD_WAIT_S),
        )
        self._recorder = Recorder(
            self._journal, settings, [(one.camera, one.ring) for one in self._cameras], self._event
        )
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._verdicts = messages.open_receiver(context, worker.folder, messages.VERDICTS)
        self._changeovers = ChangeoverRequests(settings, worker.board, self._journal, worker.log, utc_ns)
        self._sets = SetRequests(settings, worker.board, worker.log, utc_ns)
        self._reset_topic = f"{settings.prefix}/reset"
        self._heartbeat_topic = f"{settings.prefix}/heartbeat"
        has_spoken = bool(worker.board.read(PUBLISH, Field.EVER_CONNECTED))
        yields = has_spoken and bool(worker.board.read(PUBLISH, Field.YIELDS))
        self._guard = OtherSessionGuard(settings, session, clock, yields)
        # A publisher that follows a dead one of this session must not wait: the line speaks already.
        self._link = link or self._make_link(session, listens_first=yields or not has_spoken)
        self._latch = LineLatch(worker, self._recorder, self._changes, clock, utc_ns)
        self._challenge = LineChallenge(worker, self._cameras, self._changes, clock, utc_ns)
        self._deliveries = Deliveries(worker, self._cameras, self._link, self._journal, self._latch, clock)
        self._status = StatusPublisher(
            worker, self._link, self._journal, self._latch, utc_ns, self._guard, self._changes
        )
        self._reloads = 0
        self._since_ns = clock()
        self._resume()

    def _make_link(self, session: str, *, listens_first: bool) -> Link:
        settings = self._worker.settings
        kinds = ("ack", "recipe/set")
        beat, sets = self._heartbeat_topic, self._sets.topic
        # A plant without sets need not open their topic in its broker's ACL.
        optional = (beat,) if settings.recipes.sets else (beat, sets)
        fixed = (self._reset_topic, beat, sets)
        topics = (*fixed, *(f"{settings.prefix}/+/{kind}" for kind in kinds))
        each = (f"{settings.prefix}/{camera.name}/{kind}" for camera in settings.camera for kind in kinds)
        largest, shortest = measure_verdicts(settings, session)
        return Link(
            settings.mqtt,
            client_id=f"{settings.line.site}.{settings.line.name}.monitor",
            will=partial(make_will, settings, session, self._utc_ns),
            subscriptions=Subscriptions(topics, (*fixed, *each), optional=optional),
            clock=self._clock,
            guard=self._guard,
            listens_first=listens_first,
            needs=PacketNeeds(shortest, largest),
        )

    def _resume(self) -> None:
        """Takes over the state of an earlier publisher of this session."""
        self._deliveries.resume()
        for camera_frames in self._cameras:
            camera_frames.resume_episode()
            watch = self._reject_watches[camera_frames.camera.name]
            for verdict in camera_frames.last_judged(watch.looks_back, self._latch.reset_ns):
                latch = watch.feed(verdict)
                if self._latch.applies_to(self._clock()):
                    self._latch.set(latch, camera_frames.camera.name)

    def run(self) -> bool:
        """Runs the loop until the worker is stopped, then closes all frames, sends their verdicts and
        publishes the last status. Returns whether latch and challenge are on disk; if not, the next start
        takes them from the board."""
        self._worker.mark_running()
        while not self._worker.stopping:
            self.run_once()
            self._wait()
        return self._stop()

    def run_once(self, stopping: bool = False) -> None:
        """One turn, without waiting."""
        now = self._clock()
        # A turn does not block: it reads from and writes to the broker only what is possible without waiting;
        # connecting to the broker, the journal and the latch's file have threads of their own. A publisher
        # that hangs must be replaced within seconds: until then no part gets a pass, and the gate relies on
        # the last `ready`.
        self._worker.report_alive(2.0)
        _, bad = messages.receive_descriptors(self._verdicts)
        if bad:
            self._worker.log.warning("refused %d malformed messages on the verdict queue", bad)
        self._link.step()
        self._worker.board.write(PUBLISH, Field.YIELDS, self._link.must_listen)
        self._take_messages()
        if (by := reset_request.take(self._worker.board)) is not None:
            self._reset(by or "a person without a name")
        if stopping:
            self._challenge.interrupt()
        self._challenge.take_request()
        self._guard.step(self._link.generation if self._link.state is LinkState.UP else 0)
        turn = PublisherTurn(
            now_ns=now,
            now_utc_ns=self._utc_ns(),
            publisher_since_ns=self._since_ns,
            is_scorer_lost=self._worker.board.is_lost(SCORING),
            is_stopping=stopping,
        )
        for camera_frames in self._cameras:
            self._image_watches[camera_frames.camera.name].step()
            for frame, closed in camera_frames.find_new():
                self._apply_consequences(camera_frames, frame, closed)
            for frame, closed in camera_frames.close(turn):
                self._watch_rejects(camera_frames, frame, closed)
                self._image_watches[camera_frames.camera.name].feed(frame.number, closed.reason)
                self._apply_consequences(camera_frames, frame, closed)
        self._deliveries.step()
        self._challenge.step(self._deliveries)
        self._recorder.step()
        self._deliveries.forget_old(now)
        for camera_frames in self._cameras:
            camera_frames.count_final()
        self._recorder.record_tallies(self._utc_ns())
        self._publish_status(now, stopping)
        self._record_reload()

    def _record_reload(self) -> None:
        """Records the settings that the line has taken over without a restart."""
        reloads = self._worker.board.read(SUPERVISOR, Field.RELOADS)
        if reloads != self._reloads:
            self._reloads = reloads
            self._recorder.record_settings(read_live_settings(self._worker.board, self._worker.settings))

    def _apply_consequences(self, camera_frames: CameraFrames, frame: Frame, closed: FinalVerdict) -> None:
        """Logs the verdict, latches the line, records the verdict and starts its delivery, as far as the
        frame's verdict requires that."""
        camera = camera_frames.camera
        consequences = camera_frames.derive_consequences(closed)
        event = camera_frames.event(frame, closed)
        if closed.verdict is Verdict.UNINSPECTED and camera.mode is Mode.EVERY_PART:
            self._worker.log.warning("camera %s: uninspected: %s", camera.name, closed.reason.word)
        if self._latch.applies_to(frame.captured_ns):
            self._latch.set(consequences.latch, camera.name, event)
        if closed.challenge:
            self._challenge.see_closed(camera_frames, frame, event, consequences.is_for_gate)
        elif closed.reason is Reason.NO_PART:
            self._challenge.see_empty(camera_frames, frame)
        if consequences.is_journalled:
            self._recorder.record_verdict(event)
        self._deliveries.start(camera_frames, frame, event, consequences)

    def _watch_rejects(self, camera_frames: CameraFrames, frame: Frame, closed: FinalVerdict) -> None:
        if closed.challenge:
            return
        name = camera_frames.camera.name
        latch = self._reject_watches[name].feed(closed.verdict, closed.reason)
        is_new = latch is not Latch.NONE and latch.outranks(self._latch.present)
        if is_new and self._latch.applies_to(frame.captured_ns):
            self._latch.set(latch, name, camera_frames.event(frame, closed))

    def _event(self, camera: CameraSettings, ring: Ring, frame: Frame, closed: FinalVerdict) -> Event:
        """The event of a frame. The recorder calls this with the camera's ring."""
        camera_frames = next(one for one in self._cameras if one.ring is ring)
        return camera_frames.event(frame, closed)

    def _take_messages(self) -> None:
        for message in self._link.take_received():
            if message.retained:
                self._worker.log.warning("ignored a retained message on %s", message.topic)
            elif message.topic == self._heartbeat_topic:
                self._guard.hear(message)
            elif message.topic == self._reset_topic:
                self._reset()
            elif message.topic == self._sets.topic:
                self._sets.take_request(message.payload)
            elif self._changeovers.is_request(message.topic):
                self._changeovers.take_request(message.topic, message.payload)
            else:
                self._deliveries.take_answer(message)

    def _reset(self, by: str | None = None) -> None:
        self._latch.reset(by)
        for watch in self._reject_watches.values():
            watch.clear()
        for image_watch in self._image_watches.values():
            image_watch.try_anew()

    def _publish_status(self, now: int, stopping: bool) -> None:
        """Publishes the status and then the answers to changeover requests. A turn calls this after it has
        sent the verdicts, which must not wait for these messages."""
        if self._status.step(now, stopping, self._challenge.summary, self._part_rings):
            self._changeovers.send_answers(self._link, now)
            self._sets.send_answers(self._link, now)

    def _wait(self) -> None:
        """Waits until a message comes, a frame is due to be closed, or 10 ms have passed."""
        due = [due for camera_frames in self._cameras if (due := camera_frames.next_due_ns()) is not None]
        left_ms = (min(due) - self._clock()) / _MS if due else _TURN_MS
        poller = zmq.Poller()
        poller.register(self._verdicts, zmq.POLLIN)
        if (sock := self._link.socket()) is not None:
            poller.register(sock, zmq.POLLIN)
        poller.poll(max(0, min(_TURN_MS, math.ceil(left_ms))))

    def _stop(self) -> bool:
        """Closes every frame, sends the verdicts that the broker takes in time, and ends the other
        deliveries. Returns whether latch and challenge are on disk."""
        until = self._clock() + _STOP_NS
        self.run_once(stopping=True)
        deliver_until = until - _LAST_STATUS_NS
        while self._clock() < deliver_until and self._has_open():
            self._wait()
            self.run_once(stopping=True)
        self._deliveries.give_up()
        for camera_frames in self._cameras:
            camera_frames.count_final()
        self._recorder.record_tallies(self._utc_ns(), now=True)
        self._publish_status(self._clock(), stopping=True)
        while self._clock() < until and self._link.state is LinkState.UP and self._link.has_unacknowledged():
            self._wait()
            self._link.step()
            self._link.take_acknowledged()
        if self._link.has_unacknowledged():
            # The broker may not have the last status. Without a DISCONNECT it publishes the Will instead.
            self._link.drop("the broker did not acknowledge the last messages")
        self._link.close()
        is_latch_written = self._latch.close(_LATCH_S)
        if not is_latch_written:
            self._worker.log.error("the latch could not be written: the next start takes it from the board")
        is_challenge_written = self._challenge.close(_CHALLENGE_S)
        if not is_challenge_written:
            self._worker.log.error(
                "the challenge could not be written: the next start takes it from the board"
            )
        if not self._journal.close(_JOURNAL_S):
            self._worker.log.error("the journal could not be written to its end")
        if not self._changes.close(_CHANGES_S):
            self._worker.log.error("changes are missing in the record: %s", self._changes.state.problem)
        return is_latch_written and is_challenge_written

    def _has_open(self) -> bool:
        return self._deliveries.has_open or any(one.has_open for one in self._cameras)


def work(worker: Worker) -> None:
    """Runs the publisher's process until the worker is stopped."""
    if not Publisher(worker).run():
        # The supervisor then keeps board and rings for the next start.
        sys.exit(1)
