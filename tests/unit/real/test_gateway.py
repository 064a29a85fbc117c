"""The example gateway lets through nothing but a part of which a `pass`, and nothing else, came in time."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from monitor.verdict import rfc3339
from tests.real.gateway import Gateway, Part
from tests.real.mosquitto import Mosquitto

APART_S = 0.2
TOLERANCE_S = 0.07
ARRIVES_S = 0.12
GATE_S = 1.0
"""From the camera to the gate."""


class Belt:
    """A gateway, a broker, and a client that speaks as a line would: the test says of which moment."""

    def __init__(self, port: int, arrives_s: float) -> None:
        self.ahead_s = 0.0
        """Of the line's clock before the gateway's."""
        self.acks: list[tuple[str, str]] = []
        self.acted: dict[Part, bool] = {}
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *rest: client.subscribe("plant/line/+/ack", qos=1)
        self.client.on_message = self._on_ack
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.gateway = Gateway(
            "127.0.0.1", port, "plant/line", self.acted.__setitem__, TOLERANCE_S, arrives_s, {"dome": 0.25}
        )

    def _on_ack(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        answer = json.loads(message.payload)
        self.acks.append((answer["event_id"], answer["result"]))

    def part(self, ago_s: float = 0.0, camera: str = "top") -> Part:
        return self.gateway.part_passes(camera, time.time() - ago_s, time.monotonic() - ago_s + GATE_S)

    def tell(
        self,
        seen_utc: float,
        verdict: str = "pass",
        topic: str = "top/verdict",
        held_s: float = 0.0,
        took_s: float | None = None,
        **other: Any,
    ) -> str:
        """Says it of the part that was under the camera then. Returns its event's id. With `took_s` it is as
        if it had been under way for just so long, however busy this machine is."""
        sent_utc = time.time() - held_s
        ttl_ms = round(1000 * (seen_utc + GATE_S - sent_utc))
        captured_ns = round((seen_utc + self.ahead_s) * 1e9)
        payload = {
            "schema": 1,
            "event_id": str(uuid.uuid4()),
            "verdict": verdict,
            "captured_utc": rfc3339(captured_ns),
            "expires_utc": rfc3339(captured_ns + round(GATE_S * 1e9)),
            "ttl_ms": ttl_ms,
            **other,
        }
        if took_s is None:
            self.say(topic, json.dumps(payload).encode())
        else:
            self.gateway._hear(topic, payload, time.monotonic(), sent_utc + took_s)
        return str(payload["event_id"])

    def say(self, topic: str, payload: bytes) -> None:
        self.client.publish(f"plant/line/{topic}", payload, qos=1).wait_for_publish(5)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < until, (self.gateway.counts(), self.acks)
            time.sleep(0.01)

    def removed(self, *parts: Part) -> list[bool]:
        self.wait_for(lambda: all(part in self.acted for part in parts))
        return [self.acted[part] for part in parts]


@pytest.fixture
def belt(broker: Mosquitto) -> Iterator[Belt]:
    """Patient with messages, as a busy machine needs it."""
    with running(Belt(broker.port, 5.0)) as belt:
        yield belt


@pytest.fixture
def strict(broker: Mosquitto) -> Iterator[Belt]:
    with running(Belt(broker.port, ARRIVES_S)) as belt:
        yield belt


@contextmanager
def running(belt: Belt) -> Iterator[Belt]:
    with belt.gateway:
        try:

            def runs() -> bool:
                belt.say("heartbeat", b'{"ready": true}')
                return belt.gateway.may_run()

            belt.wait_for(runs)
            yield belt
        finally:
            belt.client.disconnect()
            belt.client.loop_stop()


def test_only_a_pass_in_time_is_let_through(belt: Belt) -> None:
    passes = belt.part()
    belt.tell(passes.seen_utc)
    time.sleep(APART_S)
    silent = belt.part()
    time.sleep(APART_S)
    rejected = belt.part()
    belt.tell(rejected.seen_utc, "reject")
    time.sleep(APART_S)
    uninspected = belt.part()
    belt.tell(uninspected.seen_utc, "uninspected")
    assert belt.removed(passes, silent, rejected, uninspected) == [False, True, True, True]
    counts = belt.gateway.counts()
    assert (counts.parts, counts.passed, counts.removed, counts.silent) == (4, 1, 3, 1)
    assert (counts.crowded, counts.late, counts.unmatched, counts.malformed) == (0, 0, 0, 0)


@pytest.mark.parametrize(("first", "second"), [("pass", "reject"), ("reject", "pass"), ("pass", "Pass")])
def test_a_part_told_both_ways_is_removed(belt: Belt, first: str, second: str) -> None:
    part = belt.part()
    belt.tell(part.seen_utc, first)
    belt.tell(part.seen_utc, second)
    assert belt.removed(part) == [True]


def test_a_pass_on_the_topic_of_what_must_be_removed_is_none(belt: Belt) -> None:
    part = belt.part()
    event = belt.tell(part.seen_utc, "pass", "top/reject")
    assert belt.removed(part) == [True]
    belt.wait_for(lambda: belt.acks == [(event, "accepted"), (event, "actuated")])


def test_a_pass_that_comes_after_the_gate_is_late(belt: Belt) -> None:
    part = belt.part()
    assert belt.removed(part) == [True]
    belt.tell(part.seen_utc)
    belt.wait_for(lambda: belt.gateway.counts().late == 1)
    assert belt.acted == {part: True}


def test_parts_that_pass_while_the_camera_is_away_shift_no_verdict(belt: Belt) -> None:
    """Frames 1 and 2, three parts of which there is no frame, frames 3 to 6: every second one is bad."""
    frame, fate = 0, []
    for nth in range(9):
        part = belt.part()
        if 2 <= nth < 5:
            fate.append((part, True))
        else:
            frame += 1
            bad = frame % 2 == 0
            belt.tell(part.seen_utc, "reject" if bad else "pass", frame=frame)
            fate.append((part, bad))
        time.sleep(APART_S)
    assert belt.removed(*(part for part, _ in fate)) == [bad for _, bad in fate]
    assert belt.gateway.counts().silent == 3


def test_the_barrier_may_be_behind_the_verdict(belt: Belt) -> None:
    seen_utc = time.time()
    belt.tell(seen_utc)
    part = belt.gateway.part_passes("top", seen_utc, time.monotonic() + GATE_S)
    assert belt.removed(part) == [False]
    assert belt.gateway.counts().unmatched == 0


def test_parts_too_close_to_tell_apart_are_removed(belt: Belt) -> None:
    first = belt.part()
    second = belt.gateway.part_passes("top", first.seen_utc + 1.5 * TOLERANCE_S, first.gate_at + 0.1)
    belt.tell(first.seen_utc)
    belt.tell(second.seen_utc)
    elsewhere = belt.part(camera="side")
    belt.tell(elsewhere.seen_utc, topic="side/verdict")
    assert belt.removed(first, second, elsewhere) == [True, True, False]
    assert belt.gateway.counts().crowded == 2


@pytest.mark.parametrize("took_s", [0.001, 0.1])
@pytest.mark.parametrize(
    "ahead_s", [3600.0, -3600.0, APART_S, -APART_S, 5 * APART_S, -5 * APART_S, APART_S - 0.05, APART_S + 0.05]
)
def test_where_clocks_disagree_everything_is_removed_and_counted(
    strict: Belt, ahead_s: float, took_s: float
) -> None:
    """Also by about the time between two parts or a multiple: each verdict would meet another's part."""
    strict.ahead_s = ahead_s
    now, soon = time.time(), time.monotonic() + GATE_S
    parts = [strict.gateway.part_passes("top", now + n * APART_S, soon + 0.01 * n) for n in range(8)]
    for nth, part in enumerate(parts):
        strict.tell(part.seen_utc, "reject" if nth % 2 else "pass", took_s=took_s)
    assert strict.removed(*parts) == [True] * 8
    strict.wait_for(lambda: strict.gateway.counts().unmatched == 8)


def test_a_slow_message_does_not_hide_that_clocks_disagree(strict: Belt) -> None:
    silent, good = strict.part(ago_s=APART_S), strict.part()
    strict.tell(silent.seen_utc - 5, took_s=-0.02)
    strict.tell(good.seen_utc, took_s=0.001)
    assert strict.removed(silent, good) == [True, True], "the message before was from the future"


def test_a_pass_that_was_held_back_is_none(strict: Belt) -> None:
    parts = [strict.part(ago_s=APART_S), strict.part()]
    for part, took_s in zip(parts, (0.13, 0.11), strict=True):
        strict.tell(part.seen_utc, took_s=took_s)
    assert strict.removed(*parts) == [True, False]
    assert strict.gateway.counts().unmatched == 1


def test_a_camera_whose_images_come_later_is_allowed_for(belt: Belt) -> None:
    part = belt.part(ago_s=0.25, camera="dome")
    belt.tell(part.seen_utc + 0.25, topic="dome/verdict")
    assert belt.removed(part) == [False]


def test_failed_is_answered_only_where_a_part_was_let_through(belt: Belt) -> None:
    good, bad = belt.part(ago_s=APART_S), belt.part()
    belt.tell(good.seen_utc)
    event = belt.tell(bad.seen_utc, "reject", "top/reject")
    assert belt.removed(good, bad) == [False, True]
    belt.wait_for(lambda: belt.acks == [(event, "accepted"), (event, "actuated")])
    for seen_utc, result in (
        (good.seen_utc, "failed"),
        (bad.seen_utc, "actuated"),
        (bad.seen_utc - 30, "accepted"),  # nobody saw that part, and nothing was let through for it
    ):
        event = belt.tell(seen_utc, "reject", "top/reject")
        belt.wait_for(lambda event=event, result=result: belt.acks[-1] == (event, result))


SENSELESS = (
    b"",
    b"null",
    b"7",
    b"[]",
    b'"ready"',
    b"[" * 100_000,
    b"\xff",
    b"{}",
    b'{"frame": Infinity, "ttl_ms": Infinity}',
    b'{"ttl_ms": NaN}',
    b'{"ttl_ms": 1' + b"0" * 4000 + b"}",
    b'{"ttl_ms": 9, "expires_utc": "2026-01-01", "captured_utc": "2026-01-01", "event_id": 1}',
    b'{"ttl_ms": 9, "expires_utc": 1e999, "captured_utc": 0, "event_id": 1}',
)


@pytest.mark.parametrize("topic", ["top/verdict", "top/reject", "heartbeat", "status"])
def test_what_makes_no_sense_is_counted_and_does_no_harm(belt: Belt, topic: str) -> None:
    for payload in SENSELESS:
        belt.say(topic, payload)
    part = belt.part()
    belt.tell(part.seen_utc)
    assert belt.removed(part) == [False]
    assert belt.gateway.counts().malformed == len(SENSELESS)
    assert belt.gateway.may_run()


def test_without_permission_to_run_the_belt_moves_only_for_a_challenge_part(belt: Belt) -> None:
    for reason, phase, jogs in (
        ("challenge", "armed", True),
        ("missed_reject", "armed", False),
        ("challenge", "shown", True),
        ("challenge", "due", False),
    ):
        said = {"ready": False, "reason": reason, "challenge": {"phase": phase}}
        belt.say("status", json.dumps(said).encode())
        belt.wait_for(lambda: belt.gateway.may_jog() is jogs)  # noqa: B023
        assert not belt.gateway.may_run()


def test_what_was_said_of_parts_that_never_came_is_counted_and_forgotten(belt: Belt) -> None:
    belt.tell(time.time() - 0.4, topic="side/verdict")
    belt.wait_for(lambda: belt.gateway.counts().unmatched == 1)
    assert not any(belt.gateway._told.values())
