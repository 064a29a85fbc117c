"""The alert publisher: closes every frame with its one verdict and tells the gateway, in time or not at all.

The verdict is stored in the ring before anything is sent, and marked sent once the broker has it; a
publisher that was killed is followed by one that sends what was stored and not sent. It must never wait for
a disk, a snapshot or a slow broker, and never send what the gate can no longer act on.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import msgspec
import zmq

from monitor import paths
from monitor.journal.recorder import PUBLISHED, UNHEARD, Recorder, latency_ms, outcome
from monitor.journal.writer import LAST_TRY_S, Journal
from monitor.line_state import messages, verdict_rules
from monitor.line_state.board import CameraState, Word
from monitor.line_state.changeover import recipe_name
from monitor.line_state.frame import Frame
from monitor.line_state.latch import Latch, LatchFile, read_latch
from monitor.line_state.ring import Closed, Ring, Stage
from monitor.line_state.verdict_rules import Circumstances
from monitor.line_state.worker_process import PUBLISH, SCORING, SUPERVISOR, Worker, capture_name, roll
from monitor.publish.changeover_requests import ChangeoverDesk
from monitor.publish.episodes import Episodes
from monitor.publish.mqtt import Link, LinkState, Received, Will
from monitor.publish.reject_watch import RejectWatch
from monitor.publish.resend import Unheard
from monitor.publish.status import LineState, Situation, Status, judge_line
from monitor.settings import CameraSettings, JournalVerdicts, Mode
from monitor.verdict import SCHEMA, Event, Reason, Verdict, rfc3339

_MS = 1_000_000
_TICK_MS = 10
_STATUS_NS = 50 * _MS
_HEARTBEAT_NS = 1000 * _MS
_GAP_NS = 500 * _MS
"""A turn that took longer than this was an absence: what became overdue in it is `publisher_lost`."""
_FAREWELL_NS = 1200 * _MS
_LAST_WORD_NS = 300 * _MS
"""Of that, kept for the status that says goodbye."""
_JOURNAL_S, _LATCH_S = 0.6, 0.1
LONGEST_STOP_S = _FAREWELL_NS / 1e9 + _LATCH_S + _JOURNAL_S + LAST_TRY_S
"""With a broker, a gateway and a disk that all keep it waiting."""
_LATCH_PATIENCE_NS = 300 * _MS
_MISSED = (Stage.EXPIRED, Stage.UNACKNOWLEDGED)
_MOST_FINISHED = 10_000
_LOOKED_BACK = 1000


@dataclass(slots=True)
class Delivery:
    """A closed frame's verdict on its way out."""

    frame: Frame
    closed: Closed
    event: Event
    for_gate: bool
    is_noted: bool
    """In the journal."""
    topics: tuple[str, ...]
    """The gate's first."""
    generation: int = 0
    """The connection that `unsent` and `waiting_for` are of."""
    unsent: list[str] = field(default_factory=list)
    waiting_for: set[int] = field(default_factory=set)
    """Message ids that the broker has yet to acknowledge."""
    gate_message: int = 0
    """The id of the gate's message among them."""
    is_unheard: bool = False
    """Nobody was subscribed to the gate's topic when the broker took it."""
    sent_ns: int = 0
    """When the first of its messages was handed over, to the last connection that was given any."""
    sent_by: int = 0
    """That connection's generation."""
    answer_by_ns: int = 0
    """By then the gateway must have acknowledged; 0 while that is not asked for."""
    answer: str | None = None
    """What the gateway said while others were still to be told."""
    answered_ns: int = 0
    stage: Stage = Stage.CLOSED
    """What it came to, once it is done with."""

    def meet(self, generation: int) -> None:
        """Starts anew on another connection: what an earlier one held is gone."""
        if self.generation != generation and not self.answer_by_ns:
            self.generation, self.unsent, self.waiting_for = generation, list(self.topics), set()
            self.gate_message = 0
            if self.answer is not None:
                # The gate has it.
                self.unsent = [topic for topic in self.unsent if not topic.endswith("/reject")]

    def answered(self, answer: str, now: int) -> None:
        """The gateway's answer; a later one does not undo that the gate failed."""
        self.answered_ns = self.answered_ns or now
        if self.answer is None or has_acted(self.answer):
            self.answer = answer


class Book:
    """One camera's frames between capture and the last word on them."""

    def __init__(self, camera: CameraSettings, ring: Ring) -> None:
        self.camera, self.ring = camera, ring
        self.tally = ring.tally()
        self.open: dict[int, Frame] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.unheard: Unheard[Delivery] = Unheard()
        self.watch = RejectWatch(camera)
        self.episodes = Episodes()
        self._seen = self.tally.cursor

    def discover(self) -> Iterator[Frame]:
        """Takes up new frames. Yields those that a publisher before this one closed and did not send."""
        last = self.ring.last_frame()
        while self._seen < last:
            self._seen += 1
            frame = self.ring.frame(self._seen)
            if frame is None:
                raise RuntimeError(f"ring of {self.camera.name!r} lost frame {self._seen} of {last}")
            if self.ring.closed(frame.number) is None:
                self.open[frame.number] = frame
            elif not self.ring.stage(frame.number).is_final:
                yield frame

    def close(self, at: Circumstances) -> Iterator[tuple[Frame, Closed]]:
        """Closes what can be closed now, in the ring first."""
        for frame in list(self.open.values()):
            filled = self.ring.is_filled(frame.number)
            closed = verdict_rules.decide(frame, filled, self.ring.scored(frame.number), at)
            if closed is not None:
                self.ring.write_closed(frame.number, closed)
                del self.open[frame.number]
                yield frame, closed

    def settle(self) -> None:
        """Counts frames whose verdicts need nothing more, in order."""
        tally = self.tally
        while (number := tally.cursor + 1) <= self._seen:
            closed, stage = self.ring.closed(number), self.ring.stage(number)
            if number in self.open or closed is None or not stage.is_final:
                break
            missed = stage in _MISSED and verdict_rules.is_for_gate(
                closed, self.camera.mode, self.camera.on_uninspected
            )
            tally = verdict_rules.count(tally, number, closed, missed)
        if tally is not self.tally:
            self.ring.write_tally(tally)
            self.tally = tally

    def miss(self, delivery: Delivery) -> None:
        """Counts a reject that was done with, and that the gate then failed to act on, as missed, once."""
        if delivery.stage in _MISSED:
            return
        delivery.stage, number = Stage.UNACKNOWLEDGED, delivery.frame.number
        if self.ring.frame(number) is None:
            return
        self.ring.write_stage(number, delivery.stage, delivery.sent_ns, delivery.answered_ns)
        if number <= self.tally.cursor:
            self.tally = replace(self.tally, missed_rejects=self.tally.missed_rejects + 1)
            self.ring.write_tally(self.tally)

    def resume_episode(self) -> None:
        """Takes up where a publisher before this one was: what a live view shows is no news then."""
        number, oldest = self.tally.cursor, max(0, self.tally.cursor - _LOOKED_BACK)
        while number > oldest:
            closed = self.ring.closed(number)
            if closed is not None and closed.reason is not Reason.SUPERSEDED:
                self.episodes.is_event(closed)
                return
            number -= 1

    def judged_lately(self, since_ns: int) -> list[Verdict]:
        """The verdicts that a watch looks back on, in order, of frames closed after that moment."""
        found: list[Verdict] = []
        for frame in self.newest_first():
            if len(found) >= self.watch.looks_back:
                break
            closed = self.ring.closed(frame.number)
            of_a_part = closed is not None and closed.judged and closed.reason is not Reason.NO_PART
            if closed is not None and of_a_part and closed.closed_ns > since_ns:
                found.append(closed.verdict)
        return found[::-1]

    def newest_first(self) -> Iterator[Frame]:
        """Every frame that is still in the ring."""
        number = self.ring.last_frame()
        while number > 0 and (frame := self.ring.frame(number)) is not None:
            yield frame
            number -= 1

    def next_due_ns(self) -> int | None:
        return min((frame.decide_by_ns for frame in self.open.values()), default=None)


class Publisher:
    """The publisher's loop."""

    def __init__(
        self,
        worker: Worker,
        clock: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._worker, self._clock, self._utc_ns = worker, clock, utc_ns
        settings = worker.settings
        self._settings, self._prefix, self._session = settings, settings.prefix, str(worker.session)
        self._books = [
            Book(camera, Ring(worker.folder, camera.name, worker.session)) for camera in settings.camera
        ]
        self._by_event: dict[str, tuple[Book, Delivery]] = {}
        self._finished: dict[str, tuple[Book, Delivery]] = {}
        """Rejects that are done with, as long as the gateway may still say that it failed to act."""
        self._journal = Journal(paths.journal(settings), settings.journal, session=self._session)
        self._recorder = Recorder(
            self._journal, settings, [(book.camera, book.ring) for book in self._books], self._event
        )
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._verdicts = messages.pull(context, worker.folder, messages.VERDICTS)
        self._desk = ChangeoverDesk(settings, worker.board, self._journal, worker.log, utc_ns)
        self._link = Link(
            settings.mqtt,
            client_id=f"{settings.line.site}.{settings.line.name}.monitor",
            will=self._will,
            topics=(f"{self._prefix}/reset", f"{self._prefix}/+/ack", self._desk.subscription),
            clock=clock,
        )
        self._since_ns = self._turned_ns = clock()
        self._told: tuple[int, Status, dict[str, CameraState], frozenset[str], str | None] | None = None
        self._status_due_ns = self._heartbeat_due_ns = 0
        self._trouble = "not connected yet"
        self._latch_file = LatchFile(paths.latch(settings), worker.log, utc_ns)
        self._latched_ns = 0
        self._take_up()

    def _take_up(self) -> None:
        """What holds from before: the latch, on the board or from before the service was started, and the
        rejects that ask for a stop."""
        board = self._worker.board
        if not board.read(PUBLISH, Word.EVER_RAN):
            latch = read_latch(paths.latch(self._settings))
            if (carried := Latch(board.read(PUBLISH, Word.LATCH))).outranks(latch):
                # What a killed service had missed, and the disk refused to keep.
                latch = carried
            board.write(PUBLISH, Word.LATCH, latch)
            if latch is not Latch.NONE:
                self._worker.log.error(
                    "the line is not ready until %s/reset: %s, from before the service was started",
                    self._prefix,
                    latch.word,
                )
        self._latch_file.put(Latch(board.read(PUBLISH, Word.LATCH)))
        self._remember()
        for book in self._books:
            book.resume_episode()
            for verdict in book.judged_lately(board.read(PUBLISH, Word.RESET_NS)):
                self._watch(book, verdict)

    def _remember(self) -> None:
        """The rejects that a publisher before this one was done with, as long as the gateway may still say
        that it failed to act."""
        now, found = self._clock(), []
        for book in self._books:
            for frame in book.newest_first():
                if now >= self._unspoken_of_ns(frame):
                    break
                closed, stage = book.ring.closed(frame.number), book.ring.stage(frame.number)
                if closed is None or not stage.is_final:
                    continue
                if not verdict_rules.is_for_gate(closed, book.camera.mode, book.camera.on_uninspected):
                    continue
                event = self._event(book.camera, book.ring, frame, closed)
                topics = (f"{self._prefix}/{book.camera.name}/reject",)
                delivery = Delivery(frame, closed, event, True, True, topics, stage=stage)
                delivery.sent_ns = book.ring.sent_ns(frame.number) or 0
                found.append((book, delivery))
        found.sort(key=lambda entry: entry[1].frame.expires_ns)
        self._finished = {delivery.event.event_id: (book, delivery) for book, delivery in found}

    def run(self) -> bool:
        """Publishes until told to stop, then closes and sends what is left and says goodbye. Returns whether
        the latch is on disk; else the next start must find it on the board."""
        self._worker.running()
        while not self._worker.stopping:
            self.run_once()
            self._wait()
        return self._farewell()

    def run_once(self, stopping: bool = False) -> None:
        """One turn, without waiting."""
        now = self._clock()
        if now - self._turned_ns > _GAP_NS:
            self._since_ns = now
        self._turned_ns = now
        # Whatever may block, the broker, the disk, is on another thread. While this is stuck no part has a
        # pass, and the gate believes in a `ready` of before.
        self._worker.promise(2.0)
        _, bad = messages.drain(self._verdicts)
        if bad:
            self._worker.log.warning("refused %d malformed messages on the verdict queue", bad)
        self._link.step()
        self._hear()
        at = Circumstances(
            now_ns=now,
            now_utc_ns=self._utc_ns(),
            publisher_since_ns=self._since_ns,
            scorer_fresh=self._worker.board.is_fresh(SCORING, now),
            stopping=stopping,
        )
        for book in self._books:
            for frame in book.discover():
                closed = book.ring.closed(frame.number)
                if closed is not None:
                    self._enter(book, frame, closed)
            for frame, closed in book.close(at):
                self._watch(book, closed.verdict, closed.reason)
                self._enter(book, frame, closed)
        self._deliver()
        self._recorder.step()
        self._forget(now)
        for book in self._books:
            book.settle()
        self._tell(now, stopping)

    def _enter(self, book: Book, frame: Frame, closed: Closed) -> None:
        """Starts a closed frame's way out."""
        camera = book.camera
        for_gate = verdict_rules.is_for_gate(closed, camera.mode, camera.on_uninspected)
        topics = [f"{self._prefix}/{camera.name}/reject"] if for_gate else []
        is_event = camera.mode is Mode.EVERY_PART or book.episodes.is_event(closed)
        if is_event and verdict_rules.is_published(camera.mode, self._settings.mqtt.publish_verdicts):
            topics.append(f"{self._prefix}/{camera.name}/verdict")
        event = self._event(camera, book.ring, frame, closed)
        if closed.verdict is Verdict.UNINSPECTED and camera.mode is Mode.EVERY_PART:
            self._worker.log.warning("camera %s: uninspected: %s", camera.name, closed.reason.word)
        if verdict_rules.is_a_stop(closed, camera.mode, camera.on_uninspected):
            self._latch(Latch.UNINSPECTED, camera.name)
        is_noted = is_event or self._settings.journal.verdicts is JournalVerdicts.ALL
        delivery = Delivery(frame, closed, event, for_gate, is_noted, tuple(topics))
        if is_noted:
            self._recorder.decided(event)
        if topics:
            book.deliveries[frame.number] = delivery
            self._by_event[event.event_id] = (book, delivery)
        else:
            self._finish(book, delivery, Stage.SENT)

    def _event(self, camera: CameraSettings, ring: Ring, frame: Frame, closed: Closed) -> Event:
        scored = ring.scored(frame.number)
        recipe = recipe_name(self._worker.board, camera, scored.recipe_sha if scored else "")
        return verdict_rules.event(self._prefix, self._session, camera, recipe, frame, closed, scored)

    def _deliver(self) -> None:
        """Sends what can be sent, the gate's first, and gives up what has expired."""
        now = self._clock()
        acknowledged, unheard = self._link.take_acknowledged(), self._link.take_unheard()
        refused = self._link.take_refused()
        were_alone = [book.unheard.is_alone for book in self._books]
        for book in self._books:
            book.unheard.refused(refused, now)
            for delivery, at in book.unheard.acknowledged(acknowledged, unheard):
                self._heard_at_last(book, delivery, at)
        waiting = [(book, delivery) for book in self._books for delivery in book.deliveries.values()]
        waiting.sort(key=lambda entry: entry[1].frame.expires_ns)
        for book, delivery in waiting:
            # First of all: message ids start anew with each connection.
            delivery.meet(self._link.generation)
            self._note_listeners(book, delivery, acknowledged, unheard)
            delivery.waiting_for -= acknowledged
            is_expired = now >= delivery.frame.expires_ns
            if delivery.answer is not None:
                if is_expired or not (delivery.unsent or delivery.waiting_for):
                    self._finish_answered(book, delivery, delivery.answer)
                    self._drop_if_kept(delivery)
            elif delivery.answer_by_ns:
                if now >= delivery.answer_by_ns:
                    self._finish(book, delivery, Stage.UNACKNOWLEDGED)
            elif delivery.sent_ns and not delivery.unsent and not delivery.waiting_for:
                self._arrived(book, delivery)
            elif is_expired:
                self._finish(book, delivery, Stage.EXPIRED)
                self._drop_if_kept(delivery)
        for book, was_alone in zip(self._books, were_alone, strict=True):
            self._say_who_listens(book, was_alone)
        for gate_first in (True, False):
            for book, delivery in waiting:
                if delivery.frame.number in book.deliveries and not delivery.answer_by_ns:
                    self._send(delivery, only_gate=gate_first)
            if gate_first:
                for book in self._books:
                    self._offer_again(book)

    def _drop_if_kept(self, delivery: Delivery) -> None:
        if delivery.waiting_for:
            self._link.drop("the broker did not acknowledge a verdict within its time to live")

    def _note_listeners(
        self, book: Book, delivery: Delivery, acknowledged: set[int], unheard: set[int]
    ) -> None:
        """Whether anybody listens on the gate's topic, where the broker tells."""
        message = delivery.gate_message
        if message not in delivery.waiting_for or message not in acknowledged:
            return
        if message not in unheard:
            book.unheard.somebody_listens()
            return
        delivery.is_unheard = True
        book.unheard.add(delivery.frame.number, delivery.frame.expires_ns, delivery, self._clock())

    def _say_who_listens(self, book: Book, was_alone: bool) -> None:
        """One line when nobody listens on the gate's topic any more, one when somebody does again."""
        camera = book.camera.name
        if book.unheard.is_alone and not was_alone:
            self._worker.log.warning(
                "camera %s: nobody is subscribed to %s/%s/reject: what is rejected is not removed by it",
                camera,
                self._prefix,
                camera,
            )
        elif was_alone and not book.unheard.is_alone:
            self._worker.log.info("camera %s: somebody is subscribed to its rejects again", camera)

    def _offer_again(self, book: Book) -> None:
        """Sends rejects that nobody heard, while the gate can act on them. They are in the books already: if
        nobody comes, sent and heard by nobody is what became of them."""
        now = self._clock()
        due = book.unheard.due(now, self._link.generation)
        if book.unheard.take_kept(now):
            self._link.drop("the broker did not acknowledge a reject within its time to live")
        for number, delivery in due:
            ttl_ms = (delivery.frame.expires_ns - now) // _MS
            if ttl_ms < 1:
                continue
            if self._link.room() <= 0:
                return
            payload = _json(delivery.event.payload(ttl_ms))
            sent = self._link.send(delivery.topics[0], payload, ttl_ms=ttl_ms)
            if sent is None:
                return
            book.unheard.offered(number, sent, now, delivery.frame.expires_ns)

    def _heard_at_last(self, book: Book, delivery: Delivery, sent_ns: int) -> None:
        """A reject that was offered again found somebody, whose time to answer begins with that."""
        delivery.is_unheard = False
        self._note(delivery, PUBLISHED, delivery.answer)
        if delivery.frame.number in book.deliveries:
            delivery.sent_ns = sent_ns
            if delivery.answer_by_ns:
                delivery.answer_by_ns = sent_ns + self._settings.mqtt.ack_timeout_ms * _MS

    def _send(self, delivery: Delivery, only_gate: bool) -> None:
        """Hands over as much of a delivery as the broker has room for."""
        while delivery.unsent and self._link.room() > 0:
            topic = delivery.unsent[0]
            if only_gate and not topic.endswith("/reject"):
                return
            now = self._clock()
            ttl_ms = (delivery.frame.expires_ns - now) // _MS
            if ttl_ms < 1:
                return
            sent = self._link.send(topic, _json(delivery.event.payload(ttl_ms)), ttl_ms=ttl_ms)
            if sent is None:
                return
            delivery.unsent.pop(0)
            delivery.waiting_for.add(sent)
            if topic.endswith("/reject"):
                delivery.gate_message = sent
            if delivery.sent_by != delivery.generation and delivery.answer is None:
                # What an earlier connection held the gate may never have had: its time begins with this.
                delivery.sent_by, delivery.sent_ns = delivery.generation, now

    def _arrived(self, book: Book, delivery: Delivery) -> None:
        """The broker has the verdict; where the gateway must answer, its time runs from the sending."""
        timeout_ms = self._settings.mqtt.ack_timeout_ms
        if delivery.for_gate and timeout_ms:
            delivery.answer_by_ns = delivery.sent_ns + timeout_ms * _MS
            if delivery.is_unheard:
                # Somebody may still come, and has nothing to answer before.
                delivery.answer_by_ns = max(delivery.answer_by_ns, delivery.frame.expires_ns)
            self._note(delivery, UNHEARD if delivery.is_unheard else PUBLISHED)
        else:
            self._finish(book, delivery, Stage.SENT)

    def _give_up(self, book: Book, delivery: Delivery) -> None:
        """Ends a delivery before its time, since there is none left: what it had come to is what it was."""
        if delivery.answer is not None:
            self._finish_answered(book, delivery, delivery.answer)
        else:
            # The broker has what the gateway must answer; of the rest nobody knows.
            self._finish(book, delivery, Stage.UNACKNOWLEDGED if delivery.answer_by_ns else Stage.EXPIRED)

    def _finish_answered(self, book: Book, delivery: Delivery, answer: str) -> None:
        self._finish(book, delivery, Stage.ACKNOWLEDGED if has_acted(answer) else Stage.UNACKNOWLEDGED)

    def _finish(self, book: Book, delivery: Delivery, stage: Stage) -> None:
        if delivery.for_gate and delivery.answer is None and stage in _MISSED:
            # Before the stage: who takes up after a publisher killed here must find the latch.
            self._latch(Latch.MISSED_REJECT, book.camera.name)
        number = delivery.frame.number
        book.ring.write_stage(number, stage, delivery.sent_ns, delivery.answered_ns)
        delivery.stage = stage
        book.deliveries.pop(number, None)
        self._by_event.pop(delivery.event.event_id, None)
        if delivery.for_gate:
            self._finished[delivery.event.event_id] = (book, delivery)
        word = outcome(stage, told=bool(delivery.topics), unheard=delivery.is_unheard)
        self._note(delivery, word, delivery.answer)
        if delivery.for_gate and stage in _MISSED:
            self._worker.log.error("camera %s: a reject was missed (%s)", book.camera.name, word)

    def _note(self, delivery: Delivery, outcome: str, answer: str | None = None) -> None:
        if not delivery.is_noted:
            return
        took_ms = latency_ms(delivery.frame.captured_ns, delivery.sent_ns)
        self._journal.put(delivery.event, outcome, answer, latency_ms=took_ms)

    def _watch(self, book: Book, verdict: Verdict, reason: Reason = Reason.NONE) -> None:
        asked = book.watch.feed(verdict, reason)
        if asked is not Latch.NONE:
            self._latch(asked, book.camera.name)

    def _latch(self, latch: Latch, camera: str) -> None:
        board = self._worker.board
        if not latch.outranks(Latch(board.read(PUBLISH, Word.LATCH))):
            return
        board.write(PUBLISH, Word.LATCH, latch)
        self._latch_file.put(latch)
        self._latched_ns = self._clock()
        self._recorder.latched(latch)
        self._worker.log.error(
            "camera %s: the line is not ready until %s/reset: %s", camera, self._prefix, latch.word
        )

    def _reset(self, topic: str) -> None:
        board = self._worker.board
        latch = Latch(board.read(PUBLISH, Word.LATCH))
        self._recorder.reset(latch, topic)
        # First of all, so that a publisher killed here leaves the line latched.
        board.write(PUBLISH, Word.RESET_NS, self._clock())
        board.write(PUBLISH, Word.LATCH, Latch.NONE)
        self._latch_file.put(Latch.NONE)
        for book in self._books:
            book.watch.clear()
        self._worker.log.info("reset: %s", f"{latch.word} is lifted" if latch.word else "nothing was latched")

    def _hear(self) -> None:
        for message in self._link.take_received():
            if message.retained:
                self._worker.log.warning("ignored a retained message on %s", message.topic)
            elif message.topic == f"{self._prefix}/reset":
                self._reset(message.topic)
            elif self._desk.is_for_us(message.topic):
                self._desk.hear(message.topic, message.payload)
            else:
                self._acknowledge(message)

    def _acknowledge(self, message: Received) -> None:
        try:
            answer = msgspec.json.decode(message.payload, type=_Ack)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._worker.log.warning("ignored a malformed message on %s: %s", message.topic, error)
            return
        found = self._by_event.get(answer.event_id) or self._finished.get(answer.event_id)
        if found is None or message.topic != f"{self._prefix}/{found[0].camera.name}/ack":
            return
        book, delivery = found
        acted = has_acted(answer.result)
        if answer.event_id in self._finished:
            book.unheard.forget(delivery.frame.number)
            # The part is in the books; but a gate that took the reject and then failed has let it pass.
            if not acted:
                self._latch(Latch.MISSED_REJECT, book.camera.name)
                delivery.answered_ns = delivery.answered_ns or self._clock()
                book.miss(delivery)
            # What was missed stays so, whatever the gate says later.
            came_to = delivery.stage if delivery.stage in _MISSED else Stage.ACKNOWLEDGED
            self._note(delivery, outcome(came_to, told=True), answer.result)
        elif delivery.for_gate and delivery.sent_ns:
            book.unheard.forget(delivery.frame.number)
            delivery.answered(answer.result, self._clock())
            if not acted:
                self._latch(Latch.MISSED_REJECT, book.camera.name)
            # `_deliver` finishes it, once the others are told too, which the broker may have had no room for.

    def _forget(self, now: int) -> None:
        """Lets go of rejects that nobody will speak of any more."""
        while self._finished:
            event_id, (_, delivery) = next(iter(self._finished.items()))
            if now < self._unspoken_of_ns(delivery.frame) and len(self._finished) <= _MOST_FINISHED:
                break
            del self._finished[event_id]

    def _unspoken_of_ns(self, frame: Frame) -> int:
        """When a gateway will have nothing more to say of it."""
        return frame.expires_ns + (self._settings.mqtt.ack_timeout_ms + 10_000) * _MS

    def _tell(self, now: int, stopping: bool) -> None:
        """Status when it changes and after each connection; the heartbeat every second."""
        trouble = self._link.trouble or self._link.refusal()
        if trouble != self._trouble and (trouble or self._link.state is LinkState.UP):
            self._worker.board.say(PUBLISH, trouble)
            if trouble:
                self._worker.log.error("%s", trouble)
            else:
                self._worker.log.info("connected to the broker")
            self._trouble = trouble
        if now < self._status_due_ns and not stopping:
            return
        self._status_due_ns = now + _STATUS_NS
        cameras = self._cameras(now)
        unwritten = self._journal.problem
        self._worker.board.write(PUBLISH, Word.JOURNAL_FAILING, unwritten is not None)
        situation = self._situation(now, cameras, stopping)
        status = judge_line(self._settings.camera, situation)
        if self._link.state is not LinkState.UP:
            self._worker.board.write(PUBLISH, Word.READY, 0)
            return
        self._worker.board.write(PUBLISH, Word.EVER_LINKED, 1)
        journal = unwritten or "ok"
        told = (self._link.generation, status, cameras, situation.drifting, journal)
        if told != self._told and self._link.room(reserved=0) and (stopping or self._may_tell(now)):
            self._link.send(
                f"{self._prefix}/status",
                self._status(status, cameras, situation.drifting, journal),
                retain=True,
            )
            if self._told is None or self._told[1] != status:
                self._worker.log.info(
                    "line is %s, ready %s%s",
                    status.state,
                    str(status.ready).lower(),
                    f": {status.reason}" if status.reason else "",
                )
            self._told = told
        heard = self._told is not None and self._told[0] == self._link.generation and self._told[1].ready
        self._worker.board.write(PUBLISH, Word.READY, status.ready and heard)
        if now >= self._heartbeat_due_ns:
            # From beat to beat, so that they keep time; after a stall they begin anew.
            self._heartbeat_due_ns += _HEARTBEAT_NS
            if self._heartbeat_due_ns <= now:
                self._heartbeat_due_ns = now + _HEARTBEAT_NS
            beats = self._worker.board.read(PUBLISH, Word.BEATS) + 1
            self._worker.board.write(PUBLISH, Word.BEATS, beats)
            self._link.send(f"{self._prefix}/heartbeat", self._heartbeat(beats, status.ready), qos=0)
        self._desk.tell(self._link)

    def _may_tell(self, now: int) -> bool:
        """Whether the latch is on disk, where it outlives what is told, or the disk hangs."""
        return self._latch_file.is_written or now - self._latched_ns > _LATCH_PATIENCE_NS

    def _cameras(self, now: int) -> dict[str, CameraState]:
        board = self._worker.board
        states = {}
        for book in self._books:
            worker = capture_name(book.camera.name)
            state = CameraState(board.read(worker, Word.CAMERA_STATE))
            if board.read(worker, Word.EVER_RAN) and not board.is_fresh(worker, now):
                state = CameraState.LOST
            states[book.camera.name] = state
        return states

    def _situation(self, now: int, cameras: dict[str, CameraState], stopping: bool) -> Situation:
        board = self._worker.board
        missing = board.read(SCORING, Word.WITHOUT_RECIPE)
        failing = board.read(SUPERVISOR, Word.FAILING)
        scorer_fresh = board.is_fresh(SCORING, now)
        # Of a scorer that is gone nobody knows whether what it saw is still so.
        drifting = board.read(SCORING, Word.DRIFT_HIGHER) | board.read(SCORING, Word.DRIFT_LOWER)
        drifting = drifting if scorer_fresh else 0
        return Situation(
            cameras=cameras,
            scorer_started=bool(board.read(SCORING, Word.EVER_RAN)),
            scorer_fresh=scorer_fresh,
            without_recipe=self._cameras_of(missing),
            latch=Latch(board.read(PUBLISH, Word.LATCH)),
            failing=frozenset(name for i, name in enumerate(roll(self._settings)) if failing >> i & 1),
            journal_failing=bool(board.read(PUBLISH, Word.JOURNAL_FAILING)),
            stopping=stopping or bool(board.read(SUPERVISOR, Word.STOPPING)),
            drifting=self._cameras_of(drifting),
        )

    def _cameras_of(self, bits: int) -> frozenset[str]:
        return frozenset(camera.name for i, camera in enumerate(self._settings.camera) if bits >> i & 1)

    def _status(
        self,
        status: Status,
        cameras: dict[str, CameraState],
        drifting: frozenset[str],
        journal: str | None,
    ) -> bytes:
        return _json(
            {
                "schema": SCHEMA,
                "state": status.state.value,
                "ready": status.ready,
                "reason": status.reason,
                "session": self._session,
                "utc": rfc3339(self._utc_ns()),
                "cameras": {name: state.word for name, state in cameras.items()},
                "drift": sorted(drifting),
                "journal": journal,
            }
        )

    def _heartbeat(self, beats: int, ready: bool) -> bytes:
        return _json(
            {
                "schema": SCHEMA,
                "n": beats,
                "ready": ready,
                "session": self._session,
                "utc": rfc3339(self._utc_ns()),
            }
        )

    def _will(self) -> Will:
        offline = Status(LineState.OFFLINE, False, "offline")
        lost = {camera.name: CameraState.LOST for camera in self._settings.camera}
        return Will(f"{self._prefix}/status", self._status(offline, lost, frozenset(), None))

    def _wait(self) -> None:
        due = [due for book in self._books if (due := book.next_due_ns()) is not None]
        left_ms = (min(due) - self._clock()) / _MS if due else _TICK_MS
        poller = zmq.Poller()
        poller.register(self._verdicts, zmq.POLLIN)
        if (sock := self._link.socket()) is not None:
            poller.register(sock, zmq.POLLIN)
        poller.poll(max(0, min(_TICK_MS, math.ceil(left_ms))))

    def _farewell(self) -> bool:
        """Every frame's verdict closed and, if the broker takes it in time, sent; the rest accounted for.
        Returns whether the latch is on disk."""
        until = self._clock() + _FAREWELL_NS
        self.run_once(stopping=True)
        told_by = until - _LAST_WORD_NS
        while self._clock() < told_by and any(book.deliveries or book.open for book in self._books):
            self._wait()
            self.run_once(stopping=True)
        for book in self._books:
            for delivery in list(book.deliveries.values()):
                self._give_up(book, delivery)
            book.settle()
        self._tell(self._clock(), stopping=True)
        while self._clock() < until and self._link.state is LinkState.UP and self._link.owes():
            self._wait()
            self._link.step()
            self._link.take_acknowledged()
        if self._link.owes():
            # The broker may not know that the line has stopped: let it send the Will.
            self._link.drop("the broker did not acknowledge the last messages")
        self._link.close()
        is_latch_written = self._latch_file.close(_LATCH_S)
        if not is_latch_written:
            self._worker.log.error("the latch could not be written: the next start takes it from the board")
        if not self._journal.close(_JOURNAL_S):
            self._worker.log.error("the journal could not be written to its end")
        return is_latch_written


def has_acted(answer: str) -> bool:
    """Whether the gate did, or will do, what it was told."""
    return answer in ("accepted", "actuated")


class _Ack(msgspec.Struct):
    event_id: str
    result: str
    utc: str | None = None


def _json(tree: object) -> bytes:
    return msgspec.json.encode(tree)


def work(worker: Worker) -> None:
    if not Publisher(worker).run():
        # The supervisor then keeps board and rings for the next start.
        sys.exit(1)
