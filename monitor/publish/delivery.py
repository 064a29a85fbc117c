"""Verdicts on their way to the gateway: sending, expiry, acknowledgement, and what counts as a missed reject.

Knows nothing of how a frame got its verdict. On a frame's way it stands last, between the closed frame and
the broker; when a delivery ends, its stage is written into the ring. It must never send a verdict after its
time to live, and must never wait for the broker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from monitor.journal.recorder import PUBLISHED, UNHEARD, choose_outcome, latency_ms
from monitor.journal.writer import JournalWriter
from monitor.line_state.frame import Frame
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import Stage
from monitor.line_state.verdict_rules import Consequences
from monitor.line_state.worker_process import Worker
from monitor.publish.camera_frames import MISSED, CameraFrames
from monitor.publish.latch import LineLatch
from monitor.publish.mqtt_connection import Link, Received
from monitor.publish.resend import UnheardRejects
from monitor.verdict import Event

_MS = 1_000_000
_MOST_ENDED = 10_000
"""Ended rejects that are kept in memory for late acknowledgements; of more, the oldest are forgotten."""
_LATE_ANSWER_MS = 10_000
"""So long after a reject's last possible answer a gateway may still report that the gate failed."""


@dataclass(slots=True)
class Delivery:
    """The verdict of one closed frame on its way out. Times are CLOCK_MONOTONIC nanoseconds."""

    frames: CameraFrames
    """Of the frame's camera."""
    frame: Frame
    event: Event
    is_for_gate: bool
    is_journalled: bool
    topics: tuple[str, ...]
    """All that the verdict is sent to, the gate's topic first."""
    event_id: str = field(init=False)
    generation: int = 0
    """The connection to which `unsent` and `waiting_for` belong."""
    unsent: list[str] = field(default_factory=list)
    """Topics to which this connection has not been given the verdict yet."""
    waiting_for: set[int] = field(default_factory=set)
    """Message ids that the broker has not acknowledged yet."""
    gate_message: int = 0
    """The id of the message to the gate."""
    is_unheard: bool = False
    """The broker took the gate's message while no client was subscribed to the topic."""
    sent_ns: int = 0
    """When the first message was handed to the last connection that was given any; 0 before."""
    sent_generation: int = 0
    """The number of that connection."""
    answer_by_ns: int = 0
    """The gateway must acknowledge by then; 0 until the broker has everything, or where acknowledgements are
    off."""
    answer: str | None = None
    """The gateway's acknowledgement."""
    answered_ns: int = 0
    stage: Stage = Stage.CLOSED
    """How the delivery ended; CLOSED until then."""

    def __post_init__(self) -> None:
        # Computing it hashes, and it is needed several times a delivery.
        self.event_id = self.event.event_id

    @property
    def number(self) -> int:
        return self.frame.number

    @property
    def camera(self) -> str:
        return self.frames.camera.name

    def start_over(self, generation: int) -> None:
        """Sends all topics again on another connection, which has nothing of what an earlier one was given.
        A delivery that the broker has had as a whole, or the gate's topic once answered, is not repeated."""
        if self.generation == generation or self.answer_by_ns:
            return
        self.generation, self.unsent, self.waiting_for = generation, list(self.topics), set()
        self.gate_message = 0
        if self.answer is not None:
            self.unsent = [topic for topic in self.unsent if not _is_gate_topic(topic)]

    def note_answer(self, answer: str, now: int) -> None:
        """Keeps the gateway's answer. After a failure of the gate no later answer is kept in its place."""
        self.answered_ns = self.answered_ns or now
        if self.answer is None or has_acted(self.answer):
            self.answer = answer


class Acknowledgement(msgspec.Struct):
    """The payload of `P/{camera}/ack`."""

    event_id: str
    result: str
    utc: str | None = None


def has_acted(answer: str) -> bool:
    """Whether the gate has removed the part, or will."""
    return answer in ("accepted", "actuated")


class Deliveries:
    """All cameras' deliveries, and the rejects whose delivery has ended but whose gate may still fail."""

    def __init__(
        self,
        worker: Worker,
        cameras: list[CameraFrames],
        link: Link,
        journal: JournalWriter,
        latch: LineLatch,
        clock: Callable[[], int],
    ) -> None:
        self._log, self._clock = worker.log, clock
        self._cameras, self._link, self._journal, self._latch = cameras, link, journal, latch
        self._ack_timeout_ns = worker.settings.mqtt.ack_timeout_ms * _MS
        self._open: dict[str, Delivery] = {}
        """By event id, as `_ended`."""
        self._ended: dict[str, Delivery] = {}
        self._unheard: dict[str, UnheardRejects[Delivery]] = {
            frames.camera.name: UnheardRejects() for frames in cameras
        }

    @property
    def has_open(self) -> bool:
        return bool(self._open)

    def resume(self) -> None:
        """Takes over the rejects that an earlier publisher brought to an end and that the gateway may still
        acknowledge."""
        now, found = self._clock(), []
        for frames in self._cameras:
            for frame in frames.newest_first():
                if now >= self._forget_at_ns(frame):
                    break
                closed, stage = frames.ring.closed(frame.number), frames.ring.stage(frame.number)
                if closed is None or not stage.is_final or not frames.is_for_gate(closed):
                    continue
                event, topics = frames.event(frame, closed), (frames.topic("reject"),)
                delivery = Delivery(frames, frame, event, True, True, topics, stage=stage)
                delivery.sent_ns = frames.ring.sent_ns(frame.number) or 0
                found.append(delivery)
        found.sort(key=lambda delivery: delivery.frame.expires_ns)
        self._ended = {delivery.event_id: delivery for delivery in found}

    def start(self, frames: CameraFrames, frame: Frame, event: Event, consequences: Consequences) -> None:
        """Starts the delivery of a closed frame's verdict. It ends at once where the verdict has no topic."""
        topics = [frames.topic("reject")] if consequences.is_for_gate else []
        if consequences.is_published:
            topics.append(frames.topic("verdict"))
        delivery = Delivery(
            frames, frame, event, consequences.is_for_gate, consequences.is_journalled, tuple(topics)
        )
        if topics:
            self._open[delivery.event_id] = delivery
        else:
            self._end(delivery, Stage.SENT)

    def step(self) -> None:
        """Takes the broker's acknowledgements, ends what is complete or expired, and sends what there is room
        for: first new rejects, then rejects that no client received, then the other verdicts."""
        now = self._clock()
        acknowledged, unheard = self._link.take_acknowledged(), self._link.take_unheard()
        refused = self._link.take_refused()
        had_subscriber = {name: rejects.has_subscriber for name, rejects in self._unheard.items()}
        for rejects in self._unheard.values():
            rejects.note_refused(refused, now)
            for delivery, sent_ns in rejects.take_received(acknowledged, unheard):
                self._note_received_late(delivery, sent_ns)
        waiting = sorted(self._open.values(), key=lambda delivery: delivery.frame.expires_ns)
        for delivery in waiting:
            # Before anything else: message ids start again with each connection.
            delivery.start_over(self._link.generation)
            self._note_subscribers(delivery, acknowledged, unheard)
            delivery.waiting_for -= acknowledged
            self._end_if_done(delivery, now)
        for frames in self._cameras:
            self._log_subscribers(frames, had_subscriber[frames.camera.name])
        unfinished = [one for one in waiting if not one.stage.is_final and not one.answer_by_ns]
        for delivery in unfinished:
            self._send(delivery, only_gate=True)
        for frames in self._cameras:
            self._send_again(self._unheard[frames.camera.name])
        for delivery in unfinished:
            self._send(delivery, only_gate=False)

    def _end_if_done(self, delivery: Delivery, now: int) -> None:
        is_expired = now >= delivery.frame.expires_ns
        if delivery.answer is not None:
            if is_expired or not (delivery.unsent or delivery.waiting_for):
                self._end_answered(delivery, delivery.answer)
                self._drop_if_withheld(delivery)
        elif delivery.answer_by_ns:
            if now >= delivery.answer_by_ns:
                self._end(delivery, Stage.UNACKNOWLEDGED)
        elif delivery.sent_ns and not delivery.unsent and not delivery.waiting_for:
            self._await_answer(delivery)
        elif is_expired:
            self._end(delivery, Stage.EXPIRED)
            self._drop_if_withheld(delivery)

    def _drop_if_withheld(self, delivery: Delivery) -> None:
        if delivery.waiting_for:
            self._link.drop("the broker did not acknowledge a verdict within its time to live")

    def _note_subscribers(self, delivery: Delivery, acknowledged: set[int], unheard: set[int]) -> None:
        """Notes whether a client is subscribed to the gate's topic, where the broker reports it."""
        message = delivery.gate_message
        if message not in delivery.waiting_for or message not in acknowledged:
            return
        rejects = self._unheard[delivery.camera]
        if message not in unheard:
            rejects.note_subscriber()
            return
        delivery.is_unheard = True
        rejects.add(delivery.number, delivery.frame.expires_ns, delivery, self._clock())

    def _log_subscribers(self, frames: CameraFrames, had_subscriber: bool) -> None:
        """Logs one line when the gate's topic loses its last subscriber, one when it has one again."""
        camera = frames.camera.name
        has_subscriber = self._unheard[camera].has_subscriber
        if had_subscriber and not has_subscriber:
            topic = frames.topic("reject")
            self._log.warning(
                "camera %s: no client is subscribed to %s: no gate gets its rejects", camera, topic
            )
        elif has_subscriber and not had_subscriber:
            self._log.info("camera %s: a client is subscribed to its rejects again", camera)

    def _send_again(self, rejects: UnheardRejects[Delivery]) -> None:
        """Sends the rejects that no client received, while the gate can act on them. Their delivery may have
        ended already; if no subscriber appears, the journal keeps `unheard`."""
        now = self._clock()
        due = rejects.take_due(now, self._link.generation)
        if rejects.take_withheld(now):
            self._link.drop("the broker did not acknowledge a reject within its time to live")
        for number, delivery in due:
            ttl_ms = (delivery.frame.expires_ns - now) // _MS
            if ttl_ms < 1:
                continue
            if self._link.room() <= 0:
                return
            sent = self._link.send(delivery.topics[0], _encode(delivery.event, ttl_ms), ttl_ms=ttl_ms)
            if sent is None:
                return
            rejects.note_sent(number, sent, now, delivery.frame.expires_ns)

    def _note_received_late(self, delivery: Delivery, sent_ns: int) -> None:
        """A reject that was sent again has reached a client; its time to answer begins with that sending."""
        delivery.is_unheard = False
        self._journal_outcome(delivery, PUBLISHED, delivery.answer)
        if not delivery.stage.is_final:
            delivery.sent_ns = sent_ns
            if delivery.answer_by_ns:
                delivery.answer_by_ns = sent_ns + self._ack_timeout_ns

    def _send(self, delivery: Delivery, only_gate: bool) -> None:
        """Hands the connection as much of a delivery as the broker has room for."""
        while delivery.unsent and self._link.room() > 0:
            topic = delivery.unsent[0]
            if only_gate and not _is_gate_topic(topic):
                return
            now = self._clock()
            ttl_ms = (delivery.frame.expires_ns - now) // _MS
            if ttl_ms < 1:
                return
            sent = self._link.send(topic, _encode(delivery.event, ttl_ms), ttl_ms=ttl_ms)
            if sent is None:
                return
            delivery.unsent.pop(0)
            delivery.waiting_for.add(sent)
            if _is_gate_topic(topic):
                delivery.gate_message = sent
            if delivery.sent_generation != delivery.generation and delivery.answer is None:
                # The gate may never have had what an earlier connection was given: its time to answer begins
                # with this sending.
                delivery.sent_generation, delivery.sent_ns = delivery.generation, now

    def _await_answer(self, delivery: Delivery) -> None:
        """The broker has the verdict: ends the delivery, or lets the gateway's time to answer run from the
        sending."""
        if not (delivery.is_for_gate and self._ack_timeout_ns):
            self._end(delivery, Stage.SENT)
            return
        delivery.answer_by_ns = delivery.sent_ns + self._ack_timeout_ns
        if delivery.is_unheard:
            # A gateway may still subscribe; before that it has nothing to acknowledge.
            delivery.answer_by_ns = max(delivery.answer_by_ns, delivery.frame.expires_ns)
        self._journal_outcome(delivery, UNHEARD if delivery.is_unheard else PUBLISHED)

    def _end_answered(self, delivery: Delivery, answer: str) -> None:
        self._end(delivery, Stage.ACKNOWLEDGED if has_acted(answer) else Stage.UNACKNOWLEDGED)

    def _end(self, delivery: Delivery, stage: Stage) -> None:
        is_missed = delivery.is_for_gate and stage in MISSED
        if is_missed and delivery.answer is None:
            # Before the stage: a publisher that follows one killed between the two must find the latch.
            self._latch.set(Latch.MISSED_REJECT, delivery.camera)
        delivery.frames.ring.write_stage(delivery.number, stage, delivery.sent_ns, delivery.answered_ns)
        delivery.stage = stage
        self._open.pop(delivery.event_id, None)
        if delivery.is_for_gate:
            self._ended[delivery.event_id] = delivery
        word = choose_outcome(stage, to_send=bool(delivery.topics), unheard=delivery.is_unheard)
        self._journal_outcome(delivery, word, delivery.answer)
        if is_missed:
            self._log.error("camera %s: the gate missed a reject: %s", delivery.camera, word)

    def _journal_outcome(self, delivery: Delivery, word: str, answer: str | None = None) -> None:
        if delivery.is_journalled:
            took_ms = latency_ms(delivery.frame.captured_ns, delivery.sent_ns)
            self._journal.put(delivery.event, word, answer, latency_ms=took_ms)

    def take_answer(self, message: Received) -> None:
        """Takes a message on `P/{camera}/ack`."""
        try:
            answer = msgspec.json.decode(message.payload, type=Acknowledgement)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._log.warning("ignored a malformed message on %s: %s", message.topic, error)
            return
        delivery = self._open.get(answer.event_id) or self._ended.get(answer.event_id)
        if delivery is None or message.topic != delivery.frames.topic("ack"):
            return
        if delivery.stage.is_final:
            self._note_late_answer(delivery, answer.result)
        elif delivery.is_for_gate and delivery.sent_ns:
            self._unheard[delivery.camera].forget(delivery.number)
            delivery.note_answer(answer.result, self._clock())
            if not has_acted(answer.result):
                self._latch.set(Latch.MISSED_REJECT, delivery.camera)
            # `step` ends the delivery: the broker may not have had room for the verdict's other topic yet.

    def _note_late_answer(self, delivery: Delivery, result: str) -> None:
        """The gateway's answer to a reject whose delivery has ended. A gate that took a reject and then
        failed has let the part pass."""
        self._unheard[delivery.camera].forget(delivery.number)
        if not has_acted(result):
            self._latch.set(Latch.MISSED_REJECT, delivery.camera)
            delivery.answered_ns = delivery.answered_ns or self._clock()
            if delivery.stage not in MISSED:
                delivery.stage = Stage.UNACKNOWLEDGED
                delivery.frames.record_missed(delivery.number, delivery.sent_ns, delivery.answered_ns)
        # A reject that was missed stays missed, whatever the gateway answers later.
        stage = delivery.stage if delivery.stage in MISSED else Stage.ACKNOWLEDGED
        self._journal_outcome(delivery, choose_outcome(stage, to_send=True), result)

    def forget_old(self, now: int) -> None:
        """Forgets the rejects that the gateway will not acknowledge any more."""
        while self._ended:
            event_id, delivery = next(iter(self._ended.items()))
            if now < self._forget_at_ns(delivery.frame) and len(self._ended) <= _MOST_ENDED:
                break
            del self._ended[event_id]

    def _forget_at_ns(self, frame: Frame) -> int:
        """The last moment at which an acknowledgement is accepted."""
        return frame.expires_ns + self._ack_timeout_ns + _LATE_ANSWER_MS * _MS

    def give_up(self) -> None:
        """Ends all deliveries before their time, as the process ends."""
        for delivery in list(self._open.values()):
            if delivery.answer is not None:
                self._end_answered(delivery, delivery.answer)
            else:
                # With an `answer_by_ns` the broker has everything, but the gateway has not answered. Without
                # one it is not known whether the broker has it.
                self._end(delivery, Stage.UNACKNOWLEDGED if delivery.answer_by_ns else Stage.EXPIRED)


def _is_gate_topic(topic: str) -> bool:
    return topic.endswith("/reject")


def _encode(event: Event, ttl_ms: int) -> bytes:
    return msgspec.json.encode(event.payload(ttl_ms))
