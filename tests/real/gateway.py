"""An example gateway: the program between the broker and the gate that removes parts.

It applies the gate's one rule: **remove every part that has no `pass` in time**. Silence is never a pass, nor
is a verdict that came late, a part told both ways, or a message that makes no sense. Start here for a gateway
of your own: `part_passes` is the light barrier in front of the camera, `act` the cylinder at the gate.

It must never wait for the line, and never keep a verdict of an earlier session for a part of this one.
"""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

_SILENT_S = 3.0
"""Three missed heartbeats: who stands still then was not told to, but can't know that it may run."""
_REMEMBERED_S = 60.0


class PartId(NamedTuple):
    """One part on one line: `frame` counts up by one from 1 in a session of the service."""

    camera: str
    session: str
    frame: int


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict as it arrived, by this machine's own clock."""

    verdict: str
    event_id: str
    at: float


@dataclass(slots=True)
class Counts:
    """What became of the parts; `late` counts verdicts that came when their part had passed the gate."""

    parts: int = 0
    passed: int = 0
    removed: int = 0
    silent: int = 0
    """Of the removed ones, those about which nothing was heard in time."""
    late: int = 0
    malformed: int = 0


@dataclass(order=True, slots=True)
class _Due:
    gate_at: float
    part: PartId = field(compare=False)


def lets_through(told: Sequence[Told], gate_at: float) -> bool:
    """The rule: only a part of which nothing but `pass` was said, and that before it reached the gate."""
    in_time = [one.verdict for one in told if one.at <= gate_at]
    return bool(in_time) and all(verdict == "pass" for verdict in in_time)


class Gateway:
    """`with Gateway(host, port, "plant1/line1", act) as gateway:`; `act(part, removed)` moves the gate.

    Times are seconds of `clock`, a monotonic one. It finds the broker again by itself, over any outage.
    """

    def __init__(
        self,
        host: str,
        port: int,
        prefix: str,
        act: Callable[[PartId, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix, self._act, self._clock = prefix, act, clock
        self._told: dict[PartId, list[Told]] = {}
        self._gone: dict[PartId, bool] = {}
        """Parts that have passed the gate, by whether they were removed; forgotten after a while."""
        self._due: list[_Due] = []
        self._numbers: dict[str, tuple[str, int]] = {}
        self._counts = Counts()
        self._ready, self._beat_at = False, float("-inf")
        self._lock, self._news, self._closing = threading.Lock(), threading.Event(), False
        self._gate = threading.Thread(target=self._work_gate, daemon=True)
        # Session expiry 0 (the default of MQTT 5): the broker keeps nothing for us while we are away.
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect_async(host, port, keepalive=3)

    def __enter__(self) -> Gateway:
        self._client.loop_start()
        self._gate.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._closing = True
        self._news.set()
        self._gate.join()
        self._client.disconnect()
        self._client.loop_stop()

    def part_passes(self, camera: str, session: str, gate_at: float) -> int:
        """A part is under the camera and will be at the gate at that time. Returns its number, by the
        gateway's own count: from 1 in each session."""
        with self._lock:
            known, number = self._numbers.get(camera, (session, 0))
            number = number + 1 if known == session else 1
            self._numbers[camera] = (session, number)
            self._counts.parts += 1
            heapq.heappush(self._due, _Due(gate_at, PartId(camera, session, number)))
        self._news.set()
        return number

    def may_run(self) -> bool:
        """Whether the conveyor may move: the line says `ready`, and has been heard of lately."""
        return self._client.is_connected() and self._ready and self._clock() - self._beat_at < _SILENT_S

    def counts(self) -> Counts:
        with self._lock:
            return Counts(
                self._counts.parts,
                self._counts.passed,
                self._counts.removed,
                self._counts.silent,
                self._counts.late,
                self._counts.malformed,
            )

    def _work_gate(self) -> None:
        while not self._closing:
            now = self._clock()
            with self._lock:
                due = []
                while self._due and self._due[0].gate_at <= now:
                    due.append(heapq.heappop(self._due))
                wait = min(1.0, self._due[0].gate_at - now) if self._due else 1.0
            for one in due:
                self._decide(one.part, one.gate_at)
            self._forget()
            self._news.wait(wait)
            self._news.clear()

    def _decide(self, part: PartId, gate_at: float) -> None:
        with self._lock:
            told = self._told.get(part, [])
            through = lets_through(told, gate_at)
            self._gone[part] = not through
            self._counts.passed += through
            self._counts.removed += not through
            self._counts.silent += not any(one.at <= gate_at for one in told)
        self._act(part, not through)
        if not through:
            for event_id in {one.event_id for one in told if one.verdict != "pass"}:
                self._answer(part.camera, event_id, "actuated")

    def _forget(self) -> None:
        """What was said of parts that never came, or have long gone."""
        with self._lock:
            before = self._clock() - _REMEMBERED_S
            for part, told in list(self._told.items()):
                # In the order of arrival: the first young one ends it.
                if told[0].at > before:
                    break
                del self._told[part]
                self._gone.pop(part, None)
            while len(self._gone) > 100_000:
                del self._gone[next(iter(self._gone))]

    def _on_connect(self, client: paho.Client, *rest: object) -> None:
        topics = ("status", "heartbeat", "+/verdict", "+/reject")
        client.subscribe([(f"{self._prefix}/{topic}", 1) for topic in topics])

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        at = self._clock()
        topic = message.topic.removeprefix(f"{self._prefix}/")
        try:
            payload = json.loads(message.payload)
            if topic in ("status", "heartbeat"):
                self._ready = payload["ready"] is True
                if topic == "heartbeat":
                    self._beat_at = at
            elif not message.retain:
                self._hear(topic, payload, at)
        except (ValueError, KeyError, TypeError, RecursionError):
            with self._lock:
                self._counts.malformed += 1

    def _hear(self, topic: str, payload: dict[str, Any], at: float) -> None:
        part = PartId(str(payload["camera"]), str(payload["session"]), int(payload["frame"]))
        told = Told(str(payload["verdict"]), str(payload["event_id"]), at)
        with self._lock:
            self._told.setdefault(part, []).append(told)
            removed = self._gone.get(part)
            self._counts.late += removed is not None
        if topic.endswith("/reject"):
            # A part that is past the gate was removed all the same, unless it had a pass before.
            result = "accepted" if removed is None else "actuated" if removed else "failed"
            self._answer(part.camera, told.event_id, result)

    def _answer(self, camera: str, event_id: str, result: str) -> None:
        """Not while there is no connection: paho would send it when it is news no more."""
        if self._client.is_connected():
            answer = {"event_id": event_id, "result": result}
            self._client.publish(f"{self._prefix}/{camera}/ack", json.dumps(answer), qos=1)
