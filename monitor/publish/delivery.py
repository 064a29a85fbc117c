"""The deliveries of verdicts to the gateway: sending, expiry, acknowledgement and missed rejects.

It knows nothing of how a frame got its verdict. On a frame's way it stands between the closed frame and the
broker; when a delivery ends, its stage is written into the ring. It must never send a verdict after its time
to live, and must never wait for the broker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from monitor.journal.recorder import PUBLISHED, UNHEARD, choose_outcome, latency_ms
from monitor.journal.writer import JournalWriter
from monitor.line_state.frame import Frame
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import LatchedPart
from monitor.line_state.ring import MISSED, Stage
from monitor.line_state.verdict_rules import Consequences
from monitor.line_state.worker_process import Worker
from monitor.publish.broker_client import Received
from monitor.publish.camera_frames import CameraFrames
from monitor.publish.latch import LineLatch
from monitor.publish.mqtt_connection import Link
from monitor.publish.resend import UnheardRejects
from monitor.publish.short_payload import VERDICT_EXTRAS, encode_short
from monitor.settings import Mode
from monitor.verdict import Event

_MS = 1_000_000
_MOST_ENDED = 10_000
"""The most rejects that are kept in memory for late answers after their delivery has ended."""
_LATE_ANSWER_MS = 10_000
"""A gateway's answer is accepted until this time after the reject has expired and `mqtt.ack_timeout_ms` has
passed: the gateway may report late that the gate failed."""


@dataclass(slots=True)
class Delivery:
    """The delivery of one closed frame's verdict. Times are CLOCK_MONOTONIC nanoseconds."""

    camera_frames: CameraFrames
    """The frames of the frame's camera."""
    frame: Frame
    event: Event
    is_for_gate: bool
    is_journalled: bool
    topics: tuple[str, ...]
    """The topics to which the verdict is sent, the gate's topic first."""
    event_id: str = field(init=False)
    generation: int = 0
    """The number of the connection for which `unsent` and `waiting_for` hold."""
    unsent: list[str] = field(default_factory=list)
    """The topics to which the verdict has not been sent over this connection yet."""
    waiting_for: set[int] = field(default_factory=set)
    """The ids of this connection's messages that the broker has not acknowledged yet."""
    gate_message: int = 0
    """The id of the message to the gate."""
    is_unheard: bool = False
    """The broker took the gate's message while no client was subscribed to the topic."""
    sent_ns: int = 0
    """When the first message of this delivery was sent over the connection `sent_generation`, or when an
    unheard reject was sent again and received; 0 before the first message."""
    sent_generation: int = 0
    """The number of the last connection over which a message of this delivery was sent; 0 before."""
    answer_by_ns: int = 0
    """The time by which the gateway must answer. 0 until the broker has acknowledged all messages, and where
    the gateway does not acknowledge (`mqtt.ack_timeout_ms = 0`)."""
    answer: str | None = None
    """The gateway's answer: the `result` of its acknowledgement; None before it."""
    answered_ns: int = 0
    stage: Stage = Stage.CLOSED
    """How the delivery ended; CLOSED until then."""
    latched_ns: int = 0
    """When the line was last latched for it; 0 before."""

    def __post_init__(self) -> None:
        # Computed once, because `Event.event_id` computes a hash each time.
        self.event_id = self.event.event_id

    @property
    def number(self) -> int:
        return self.frame.number

    @property
    def camera(self) -> str:
        return self.camera_frames.camera.name

    @property
    def is_of_part(self) -> bool:
        return self.camera_frames.camera.mode is Mode.EVERY_PART

    def reset_for_connection(self, generation: int) -> None:
        """On a new connection, marks all topics as unsent: messages of an earlier connection may be lost.

        Nothing is marked once the broker has acknowledged all messages and the gateway's answer is awaited.
        The gate's topic is not marked once the gateway has answered.
        """
        if self.generation == generation or self.answer_by_ns:
            return
        self.generation, self.unsent, self.waiting_for = generation, list(self.topics), set()
        self.gate_message = 0
        if self.answer is not None:
            self.unsent = [topic for topic in self.unsent if not _is_gate_topic(topic)]

    def note_answer(self, answer: str, now: int) -> None:
        """Stores the gateway's answer. The report of a failure is never replaced by a later answer."""
        self.answered_ns = self.answered_ns or now
        if self.answer is None or is_success(self.answer):
            self.answer = answer


class Acknowledgement(msgspec.Struct):
    """The payload of `P/{camera}/ack`."""

    event_id: str
    result: str
    utc: str | None = None


def is_success(answer: str) -> bool:
    """Whether the gateway's answer reports that the gate has removed the part, or will remove it."""
    return answer in ("accepted", "actuated")


class Deliveries:
    """The deliveries of all cameras, and the ended deliveries of rejects for which an answer may still
    come."""

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
        self._page = worker.settings.review.address
        self._ack_timeout_ns = worker.settings.mqtt.ack_timeout_ms * _MS
        self._open: dict[str, Delivery] = {}
        """The deliveries that have not ended, by event id."""
        self._ended: dict[str, Delivery] = {}
        """The rejects whose delivery has ended, by event id."""
        self._unheard: dict[str, UnheardRejects[Delivery]] = {
            camera_frames.camera.name: UnheardRejects() for camera_frames in cameras
        }

    @property
    def has_open(self) -> bool:
        return bool(self._open)

    def resume(self) -> None:
        """Reads from the rings the rejects whose delivery ended under an earlier publisher and for which an
        answer is still accepted."""
        now, found = self._clock(), []
        for camera_frames in self._cameras:
            for frame in camera_frames.newest_first():
                if now >= self._forget_at_ns(frame):
                    break
                closed, stage = (
                    camera_frames.ring.final_verdict(frame.number),
                    camera_frames.ring.stage(frame.number),
                )
                if closed is None or not stage.is_final or not camera_frames.is_for_gate(closed):
                    continue
                event, topics = camera_frames.event(frame, closed), (camera_frames.topic("reject"),)
                delivery = Delivery(camera_frames, frame, event, True, True, topics, stage=stage)
                delivery.sent_ns = camera_frames.ring.sent_ns(frame.number) or 0
                found.append(delivery)
        found.sort(key=lambda delivery: delivery.frame.expires_ns)
        self._ended = {delivery.event_id: delivery for delivery in found}

    def start(
        self, camera_frames: CameraFrames, frame: Frame, event: Event, consequences: Consequences
    ) -> None:
        """Starts the delivery of a closed frame's verdict. A delivery without a topic ends at once."""
        topics = [camera_frames.topic("reject")] if consequences.is_for_gate else []
        if consequences.is_published:
            topics.append(camera_frames.topic("verdict"))
        delivery = Delivery(
            camera_frames, frame, event, consequences.is_for_gate, consequences.is_journalled, tuple(topics)
        )
        if topics:
            self._open[delivery.event_id] = delivery
        else:
            self._end(delivery, Stage.SENT)

    def step(self) -> None:
        """Takes the broker's acknowledgements, ends the deliveries that are complete or expired, and sends as
        much as the broker takes: first new rejects, then the other verdicts. Rejects that no client received
        are sent again when nothing else waits."""
        now = self._clock()
        acknowledged, unheard = self._link.take_acknowledged(), self._link.take_unheard()
        refused = self._link.take_refused()
        had_subscriber = {name: rejects.has_subscriber for name, rejects in self._unheard.items()}
        for rejects in self._unheard.values():
            rejects.use_connection(self._link.generation)
            rejects.note_refused(refused, now)
            for delivery, sent_ns in rejects.take_received(acknowledged, unheard, now):
                self._note_received_late(delivery, sent_ns)
        # A live view's verdict never goes before a part's: a pass that comes too late is none.
        waiting = sorted(self._open.values(), key=lambda one: (not one.is_of_part, one.frame.expires_ns))
        for delivery in waiting:
            # This comes first: each connection has its own message ids, so those of an earlier one must be
            # gone.
            delivery.reset_for_connection(self._link.generation)
            self._note_subscribers(delivery, acknowledged, unheard)
            delivery.waiting_for -= acknowledged
            self._end_if_done(delivery, now)
        for camera_frames in self._cameras:
            self._log_subscribers(camera_frames, had_subscriber[camera_frames.camera.name])
        unfinished = [one for one in waiting if not one.stage.is_final and not one.answer_by_ns]
        for delivery in unfinished:
            self._send(delivery, only_gate=True)
        for delivery in unfinished:
            self._send(delivery, only_gate=False)
        waits = any(delivery.unsent for delivery in unfinished)
        for rejects in self._unheard.values():
            self._send_again(rejects, 0 if waits else self._link.spare_room())

    def _end_if_done(self, delivery: Delivery, now: int) -> None:
        is_expired = now >= delivery.frame.expires_ns
        if delivery.answer is not None:
            if is_expired or not (delivery.unsent or delivery.waiting_for):
                self._end_answered(delivery, delivery.answer)
                self._drop_link_if_unacknowledged(delivery)
        elif delivery.answer_by_ns:
            if now >= delivery.answer_by_ns:
                self._end(delivery, Stage.UNACKNOWLEDGED)
        elif delivery.sent_ns and not delivery.unsent and not delivery.waiting_for:
            self._await_answer(delivery)
        elif is_expired:
            self._end(delivery, Stage.EXPIRED)
            self._drop_link_if_unacknowledged(delivery)

    def _drop_link_if_unacknowledged(self, delivery: Delivery) -> None:
        if delivery.waiting_for:
            self._link.drop("the broker did not acknowledge a verdict within its time to live")

    def _note_subscribers(self, delivery: Delivery, acknowledged: set[int], unheard: set[int]) -> None:
        """Notes whether a client is subscribed to the gate's topic. Only MQTT 5 brokers may report it."""
        message = delivery.gate_message
        if message not in delivery.waiting_for or message not in acknowledged:
            return
        rejects = self._unheard[delivery.camera]
        if message not in unheard:
            rejects.note_subscriber()
            return
        delivery.is_unheard = True
        rejects.add(delivery.number, delivery.frame.expires_ns, delivery, self._clock())

    def _log_subscribers(self, camera_frames: CameraFrames, had_subscriber: bool) -> None:
        """Logs one line when the gate's topic has lost its last subscriber, and one when it has one again."""
        camera = camera_frames.camera.name
        has_subscriber = self._unheard[camera].has_subscriber
        if had_subscriber and not has_subscriber:
            topic = camera_frames.topic("reject")
            self._log.warning(
                "camera %s: no client is subscribed to %s: no gate gets its rejects", camera, topic
            )
        elif has_subscriber and not had_subscriber:
            self._log.info("camera %s: a client is subscribed to its rejects again", camera)

    def _send_again(self, rejects: UnheardRejects[Delivery], most: int) -> None:
        """Sends at most `most` of the rejects that no client received, while the gate can act on them. Their
        delivery may have ended already; if no subscriber appears, the journal keeps `unheard`."""
        now = self._clock()
        rejects.forget_overdue(now)
        for number, delivery in rejects.take_due(now, most):
            ttl_ms = (delivery.frame.expires_ns - now) // _MS
            topic = delivery.topics[0]
            sent = self._link.send(topic, self._encode(delivery.event, topic, ttl_ms), ttl_ms=ttl_ms)
            if sent is None:
                return
            rejects.note_sent(number, sent, now, delivery.frame.expires_ns)

    def _note_received_late(self, delivery: Delivery, sent_ns: int) -> None:
        """Notes that a reject has reached a client after it was sent again. The gateway's time to answer
        begins with that sending."""
        delivery.is_unheard = False
        self._journal_outcome(delivery, PUBLISHED, delivery.answer)
        if not delivery.stage.is_final:
            delivery.sent_ns = sent_ns
            if delivery.answer_by_ns:
                delivery.answer_by_ns = sent_ns + self._ack_timeout_ns

    def _send(self, delivery: Delivery, only_gate: bool) -> None:
        """Sends a delivery's unsent topics as far as the broker takes them and the verdict has not
        expired."""
        while delivery.unsent and self._link.room() > 0:
            topic = delivery.unsent[0]
            if only_gate and not _is_gate_topic(topic):
                return
            now = self._clock()
            ttl_ms = (delivery.frame.expires_ns - now) // _MS
            if ttl_ms < 1:
                return
            sent = self._link.send(topic, self._encode(delivery.event, topic, ttl_ms), ttl_ms=ttl_ms)
            if sent is None:
                return
            delivery.unsent.pop(0)
            delivery.waiting_for.add(sent)
            if _is_gate_topic(topic):
                delivery.gate_message = sent
            if delivery.sent_generation != delivery.generation and delivery.answer is None:
                # Messages of an earlier connection may be lost, so the gateway's time to answer begins with
                # this sending.
                delivery.sent_generation, delivery.sent_ns = delivery.generation, now

    def _encode(self, event: Event, topic: str, ttl_ms: int) -> bytes:
        """The payload, without some fields where the broker takes only small packets."""
        return encode_short(
            event.payload(ttl_ms), VERDICT_EXTRAS, self._link.payload_room(topic, expires=True)
        )

    def _await_answer(self, delivery: Delivery) -> None:
        """Called when the broker has acknowledged all messages. Ends the delivery, or sets the time by which
        the gateway must answer, counted from the sending."""
        if not (delivery.is_for_gate and self._ack_timeout_ns):
            self._end(delivery, Stage.SENT)
            return
        delivery.answer_by_ns = delivery.sent_ns + self._ack_timeout_ns
        if delivery.is_unheard:
            # A gateway may still subscribe until the reject expires; it can't answer before that.
            delivery.answer_by_ns = max(delivery.answer_by_ns, delivery.frame.expires_ns)
        self._journal_outcome(delivery, UNHEARD if delivery.is_unheard else PUBLISHED)

    def _end_answered(self, delivery: Delivery, answer: str) -> None:
        self._end(delivery, Stage.ACKNOWLEDGED if is_success(answer) else Stage.UNACKNOWLEDGED)

    def _end(self, delivery: Delivery, stage: Stage) -> None:
        is_missed = delivery.is_for_gate and stage in MISSED
        is_latched = is_missed and self._latch.applies_to(delivery.frame.captured_ns)
        if is_latched and delivery.answer is None:
            # The latch is set before the stage is written. If the publisher is killed between the two, the
            # line is latched; in the other order the missed reject would be final without a latch.
            self._latch_missed(delivery)
        delivery.camera_frames.ring.write_stage(
            delivery.number, stage, delivery.sent_ns, delivery.answered_ns
        )
        delivery.stage = stage
        self._open.pop(delivery.event_id, None)
        if delivery.is_for_gate:
            self._ended[delivery.event_id] = delivery
        word = choose_outcome(stage, to_send=bool(delivery.topics), unheard=delivery.is_unheard)
        self._journal_outcome(delivery, word, delivery.answer)
        if is_latched:
            part = LatchedPart.of(delivery.event).describe(self._page)
            self._log.error(
                "camera %s: the gate missed a reject: %s: %s",
                delivery.camera,
                word,
                part,
                extra={"repeats": f"{delivery.camera}: missed reject: {word}"},
            )

    def _latch_missed(self, delivery: Delivery) -> None:
        """Latches the line for a missed reject, once until the line is reset, so that no part is counted
        twice."""
        if delivery.latched_ns > self._latch.reset_ns:
            return
        self._latch.set(Latch.MISSED_REJECT, delivery.camera, delivery.event)
        delivery.latched_ns = self._clock()

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
        if delivery is None or message.topic != delivery.camera_frames.topic("ack"):
            return
        if delivery.stage.is_final:
            self._note_late_answer(delivery, answer.result)
        elif delivery.is_for_gate and delivery.sent_ns:
            self._unheard[delivery.camera].forget(delivery.number)
            delivery.note_answer(answer.result, self._clock())
            if not is_success(answer.result):
                self._latch_missed(delivery)
            # `step` ends the delivery: the broker may not have had room for the verdict's other topic yet.

    def _note_late_answer(self, delivery: Delivery, result: str) -> None:
        """Handles the gateway's answer to a reject whose delivery has ended. If it reports a failure, the
        part was not removed: the line is latched and the reject counts as missed."""
        self._unheard[delivery.camera].forget(delivery.number)
        delivery.note_answer(result, self._clock())
        if not is_success(result):
            self._latch_missed(delivery)
            if delivery.stage not in MISSED:
                delivery.stage = Stage.UNACKNOWLEDGED
                delivery.camera_frames.record_missed(delivery.number, delivery.sent_ns, delivery.answered_ns)
        # A reject that was missed stays missed, whatever the gateway answers later.
        stage = delivery.stage if delivery.stage in MISSED else Stage.ACKNOWLEDGED
        self._journal_outcome(delivery, choose_outcome(stage, to_send=True), result)

    def answer_to(self, event_id: str) -> str | None:
        """The gateway's last answer to that reject; None without one, and once it is forgotten."""
        delivery = self._open.get(event_id) or self._ended.get(event_id)
        return delivery.answer if delivery is not None else None

    def is_unheard(self, event_id: str) -> bool:
        """Whether no client was subscribed when the broker took that reject."""
        delivery = self._open.get(event_id) or self._ended.get(event_id)
        return delivery is not None and delivery.is_unheard

    def forget_old(self, now: int) -> None:
        """Forgets ended rejects for which no answer is accepted any more, and the oldest above
        `_MOST_ENDED`."""
        while self._ended:
            event_id, delivery = next(iter(self._ended.items()))
            if now < self._forget_at_ns(delivery.frame) and len(self._ended) <= _MOST_ENDED:
                break
            del self._ended[event_id]

    def _forget_at_ns(self, frame: Frame) -> int:
        """The time from which the gateway's answer is no longer accepted."""
        return frame.expires_ns + self._ack_timeout_ns + _LATE_ANSWER_MS * _MS

    def give_up(self) -> None:
        """Ends all deliveries, because the process ends."""
        for delivery in list(self._open.values()):
            if delivery.answer is not None:
                self._end_answered(delivery, delivery.answer)
            else:
                # With an `answer_by_ns` the broker has acknowledged all messages, but the gateway has not
                # answered. Without it the broker may not have received the verdict.
                self._end(delivery, Stage.UNACKNOWLEDGED if delivery.answer_by_ns else Stage.EXPIRED)


def _is_gate_topic(topic: str) -> bool:
    return topic.endswith("/reject")
