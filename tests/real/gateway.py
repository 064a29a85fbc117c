"""An example gateway: the program between the broker and the gate that removes parts.

It applies the rule of the gate: **remove every part that has no `pass` in time**. Silence is never a pass. A
late verdict, two different verdicts or an invalid message is no pass either. Use it as a start for your own
gateway: `part_passes` is the light barrier in front of the camera, `act` is the cylinder at the gate.

A verdict belongs to the part that was under the camera at its `captured_utc`; the clocks of both machines
must be synchronised. The gateway must never find the part by counting. `frame` counts the camera's images,
and the barrier counts parts. A part that passes while the camera or its worker is down has no frame, so every
later verdict would go to a wrong part and bad parts would pass, which the line can't detect. With times this
can't happen: if the clocks differ, no `pass` counts and every part is removed.
"""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

_SILENT_S = 3.0
"""The time of three missed heartbeats. After it the conveyor stops, because the gateway does not know whether
it may run."""
_REMEMBERED_S = 60.0
_AFTER_EXPIRY_S = 1.0
_DOUBTED_S = 5.0
"""After a message with a time in the future no `pass` counts for this long: the clocks differ, and a late
message could look as if it were in time."""


@dataclass(eq=False, slots=True)
class Part:
    """One part between a camera and the gate."""

    camera: str
    seen_utc: float
    """The time at which it was under the camera, in seconds of this machine's UTC."""
    gate_at: float
    """The time at which it will be at the gate, by the gateway's monotonic clock."""
    removed: bool | None = None
    """It is None until the part is at the gate."""


@dataclass(slots=True)
class PartMessage:
    """One message about a part."""

    captured_utc: float
    at: float
    """The time of its arrival by the gateway's monotonic clock, as is `until`."""
    until: float
    passes: bool
    rejects: bool
    """Whether it came on the `reject` topic."""
    event_id: str
    matched: bool


@dataclass(slots=True)
class Counts:
    """Numbers of parts and messages by their results."""

    parts: int = 0
    passed: int = 0
    removed: int = 0
    silent: int = 0
    """Removed parts for which no message arrived in time."""
    crowded: int = 0
    """Removed parts that were too close to another part, so that a verdict could belong to either. If there
    are many, check whether the barrier bounces or the tolerance is too large."""
    late: int = 0
    """Messages that came after their part had passed the gate."""
    unmatched: int = 0
    """Messages that count for no part: no part was under the camera at that time, or the clocks differ, or
    the message took too long. If it grows like `parts`, check the clocks."""
    malformed: int = 0


@dataclass(order=True, slots=True)
class _Due:
    gate_at: float
    part: Part = field(compare=False)


def may_pass(told: Iterable[PartMessage], gate_at: float) -> bool:
    """The rule: a part may pass only if all its verdicts are `pass` and arrived before it reached the
    gate."""
    in_time = [one.passes for one in told if one.at <= gate_at]
    return bool(in_time) and all(in_time)


class Gateway:
    """Use it as `with Gateway(host, port, "plant1/line1", act, 0.05, 0.1) as gateway:`. `act(part, removed)`
    moves the gate.

    A verdict belongs to a part that was under the camera within `tolerance_s` of its captured time.
    `tolerance_s` must be less than half of the shortest time between two parts; two parts that are closer are
    both removed. A `pass` that took longer than `arrives_s` by both clocks does not count; `arrives_s` and
    `tolerance_s` together must be less than the shortest time between two parts. A `pass` that arrived more
    than `clocks_s` before its time of sending does not count either, nor does one soon after it: this shows
    that the clocks differ, unless every message is equally slow. `lags_s` is, by camera, the time from the
    exposure until the image reaches the line (for RTSP one frame period and the encoding). The gateway
    connects to the broker again after any outage, and never waits for the line.
    """

    def __init__(
        self,
        host: str,
        port: int,
        prefix: str,
        act: Callable[[Part, bool], None],
        tolerance_s: float,
        arrives_s: float,
        lags_s: Mapping[str, float] | None = None,
        clocks_s: float = 0.01,
        clock: Callable[[], float] = time.monotonic,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._prefix, self._act, self._clock, self._utc = prefix, act, clock, utc
        self._tolerance_s, self._arrives_s, self._lags_s = tolerance_s, arrives_s, dict(lags_s or {})
        self._clocks_s, self._doubted_until = clocks_s, float("-inf")
        self._parts: dict[str, deque[Part]] = {}
        """Parts by camera; parts stay for a while after they have passed the gate."""
        self._told: dict[str, deque[PartMessage]] = {}
        self._due: list[_Due] = []
        self._counts = Counts()
        self._ready, self._awaits_challenge_part, self._beat_at = False, False, float("-inf")
        self._lock, self._news, self._closing = threading.Lock(), threading.Event(), False
        self._gate = threading.Thread(target=self._work_gate, daemon=True)
        # With session expiry 0 (the default of MQTT 5) the broker keeps no messages during an outage.
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

    def part_passes(self, camera: str, seen_utc: float, gate_at: float) -> Part:
        """Report a part: `utc` of this machine is when it was under the camera, and the monotonic time is
        when it will be at the gate. Call it at once for every part, whether the line is ready or not."""
        part = Part(camera, seen_utc, gate_at)
        with self._lock:
            self._parts.setdefault(camera, deque()).append(part)
            self._counts.parts += 1
            heapq.heappush(self._due, _Due(gate_at, part))
        self._news.set()
        return part

    def may_run(self) -> bool:
        """Whether the conveyor may move: the line's last message says `ready`, and it is not too old."""
        return self._ready and self._hears_line()

    def may_jog(self) -> bool:
        """Whether the conveyor may move with the feed off, so that a challenge part reaches its camera and
        the gate: nothing else stops the line, and a person has laid the part or is about to."""
        return self._awaits_challenge_part and self._hears_line()

    def _hears_line(self) -> bool:
        return self._client.is_connected() and self._clock() - self._beat_at < _SILENT_S

    def counts(self) -> Counts:
        with self._lock:
            return replace(self._counts)

    def _work_gate(self) -> None:
        while not self._closing:
            now = self._clock()
            with self._lock:
                due = []
                while self._due and self._due[0].gate_at <= now:
                    due.append(heapq.heappop(self._due))
                wait = min(1.0, self._due[0].gate_at - now) if self._due else 1.0
            for one in due:
                self._decide(one.part)
            self._forget()
            self._news.wait(wait)
            self._news.clear()

    def _decide(self, part: Part) -> None:
        with self._lock:
            told = [one for one in self._told.get(part.camera, ()) if self._belongs(one, part)]
            for one in told:
                one.matched = True
            crowded = self._is_ambiguous(part)
            part.removed = removed = crowded or not may_pass(told, part.gate_at)
            self._counts.passed += not removed
            self._counts.removed += removed
            self._counts.crowded += crowded
            self._counts.silent += not any(one.at <= part.gate_at for one in told)
        self._act(part, removed)
        for event_id in {one.event_id for one in told if one.rejects}:
            self._answer(part.camera, event_id, "actuated" if removed else "failed")

    def _belongs(self, told: PartMessage, part: Part) -> bool:
        return abs(told.captured_utc - part.seen_utc) <= self._tolerance_s

    def _is_ambiguous(self, part: Part) -> bool:
        """Whether a verdict could belong to this part and to another one."""
        return any(
            other is not part and abs(other.seen_utc - part.seen_utc) <= 2 * self._tolerance_s
            for other in self._parts[part.camera]
        )

    def _forget(self) -> None:
        """Delete messages without a part, and parts that passed the gate long ago."""
        now = self._clock()
        with self._lock:
            for parts in self._parts.values():
                while parts and parts[0].removed is not None and parts[0].gate_at < now - _REMEMBERED_S:
                    parts.popleft()
            for told in self._told.values():
                while told and told[0].until < now - _AFTER_EXPIRY_S:
                    self._counts.unmatched += not told.popleft().matched

    def _on_connect(self, client: paho.Client, *rest: object) -> None:
        topics = ("status", "heartbeat", "+/verdict", "+/reject")
        client.subscribe([(f"{self._prefix}/{topic}", 1) for topic in topics])

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        at, utc = self._clock(), self._utc()
        topic = message.topic.removeprefix(f"{self._prefix}/")
        try:
            payload = json.loads(message.payload)
            if topic in ("status", "heartbeat"):
                self._ready = payload["ready"] is True
                if topic == "heartbeat":
                    self._beat_at = at
                else:
                    self._awaits_challenge_part = _awaits_challenge_part(payload)
            elif not message.retain:
                self._hear(topic, payload, at, utc)
        # This catches every error of an invalid message, because an error here would end the thread that
        # receives messages.
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            with self._lock:
                self._counts.malformed += 1

    def _hear(self, topic: str, payload: dict[str, Any], at: float, utc: float) -> None:
        camera, _, kind = topic.partition("/")
        ttl_s = int(payload["ttl_ms"]) / 1000
        took_s = utc - (_parse_utc(payload["expires_utc"]) - ttl_s)
        if took_s < -self._clocks_s:
            self._doubted_until = at + _DOUBTED_S
        clocks_agree = took_s <= self._arrives_s and at >= self._doubted_until
        told = PartMessage(
            captured_utc=_parse_utc(payload["captured_utc"]) - self._lags_s.get(camera, 0.0),
            at=at,
            until=at + min(ttl_s, _REMEMBERED_S),
            passes=kind == "verdict" and payload["verdict"] == "pass" and clocks_agree,
            rejects=kind == "reject",
            event_id=str(payload["event_id"]),
            matched=not clocks_agree,
        )
        with self._lock:
            known = [part for part in self._parts.get(camera, ()) if self._belongs(told, part)]
            gone = [part.removed for part in known if part.removed is not None]
            told.matched |= bool(known)
            self._told.setdefault(camera, deque()).append(told)
            self._counts.unmatched += not clocks_agree
            self._counts.late += bool(gone)
        if told.rejects:
            # A part without another `pass` is removed, also one that the barrier reports later.
            result = "failed" if False in gone else "actuated" if gone else "accepted"
            self._answer(camera, told.event_id, result)

    def _answer(self, camera: str, event_id: str, result: str) -> None:
        """Nothing is sent without a connection, because paho would send it later, when it is out of date."""
        if self._client.is_connected():
            answer = {"event_id": event_id, "result": result}
            self._client.publish(f"{self._prefix}/{camera}/ack", json.dumps(answer), qos=1)


def _awaits_challenge_part(status: dict[str, Any]) -> bool:
    """Every other reason comes before `challenge`, so with it nothing else stops the line."""
    challenge = status.get("challenge")
    phase = challenge.get("phase") if isinstance(challenge, dict) else None
    return status.get("reason") == "challenge" and phase in ("armed", "shown")


def _parse_utc(stamp: str) -> float:
    """Seconds since 1970 of an RFC 3339 time. Raises ValueError for a time without a zone."""
    moment = datetime.fromisoformat(stamp)
    if moment.tzinfo is None:
        raise ValueError(f"{stamp} is not a UTC time")
    return moment.timestamp()
