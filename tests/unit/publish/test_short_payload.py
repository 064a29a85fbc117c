"""A payload that is too long loses what a gateway can do without, and never what it decides by."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.publish.broker_limits import measure_publish
from monitor.publish.short_payload import (
    VERDICT_EXTRAS,
    encode_short,
    make_largest_event,
    measure_verdicts,
)
from monitor.settings import ChallengeSettings, Settings
from monitor.verdict import Reason, Verdict
from tests.unit.publish.scene import Scene

SESSION = str(uuid.UUID(int=1))
LINE = Settings(camera=({"name": "top", "source": "simulated://plate", "recipe": "plate"},))  # type: ignore[arg-type]
NEEDED = {
    "schema",
    "event_id",
    "session",
    "camera",
    "frame",
    "verdict",
    "captured_utc",
    "expires_utc",
    "ttl_ms",
}


@given(most=st.none() | st.integers(0, 900))
def test_a_verdict_is_as_long_as_it_may_be_and_keeps_what_the_gateway_needs(most: int | None) -> None:
    payload = make_largest_event(LINE, SESSION).payload(500)
    encoded = encode_short(payload, VERDICT_EXTRAS, most)
    left = json.loads(encoded)
    assert left.keys() >= NEEDED
    assert {key: payload[key] for key in left} == left
    shortest = len(encode_short(payload, VERDICT_EXTRAS, 0))
    if most is None:
        assert left == payload
    else:
        assert len(encoded) <= max(most, shortest)


def test_the_room_of_the_largest_verdict_keeps_all_that_is_not_null_and_a_null_makes_no_field_leave() -> None:
    payload = make_largest_event(LINE, SESSION).payload(500)
    assert payload["challenge"] is None
    told = {key: value for key, value in payload.items() if value is not None}
    room = len(msgspec.json.encode(told))
    assert json.loads(encode_short(payload, VERDICT_EXTRAS, room)) == told
    known = {"camera": "top", "expected": "pass", "verified_by": "a", "verified": "2026-11-01"}
    parts = ChallengeSettings.model_validate({"part": [{"id": "good-1", "expires": "2027-11-01", **known}]})
    challenged = LINE.model_copy(update={"challenge": parts})
    longer = len('"challenge":"good-1",')
    assert measure_verdicts(challenged, SESSION)[0] == measure_verdicts(LINE, SESSION)[0] + longer


@given(
    names=st.lists(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), min_size=1, max_size=4, unique=True),
    frame=st.integers(1, 10**9),
    score=st.floats(0, 1e6),
    reason=st.sampled_from(Reason),
)
def test_no_verdict_is_larger_than_the_largest(
    names: list[str], frame: int, score: float, reason: Reason
) -> None:
    cameras = [{"name": name, "source": "simulated://plate", "recipe": "plate"} for name in names]
    settings = Settings(camera=cameras)  # type: ignore[arg-type]
    largest, shortest = measure_verdicts(settings, SESSION)
    for name in names:
        event = replace(
            make_largest_event(settings, SESSION),
            camera=name,
            frame=frame,
            part=frame,
            verdict=Verdict.REJECT,
            reason=reason,
            score=score,
            threshold=score,
            snapshot=f"2026-11-30/{name}/235959999_{name}_{frame}_{score:.4g}.jpg",
        )
        topic = f"{settings.prefix}/{name}/verdict"
        for bound, most in ((largest, None), (shortest, 0)):
            told = {key: one for key, one in event.payload(3_600_000).items() if one is not None}
            encoded = encode_short(told, VERDICT_EXTRAS, most)
            assert measure_publish(topic, len(encoded), expires=True) <= bound


def test_the_largest_event_is_no_pass() -> None:
    event = make_largest_event(LINE, SESSION)
    assert (event.verdict, event.frame) == (Verdict.UNINSPECTED, 0)


@pytest.mark.parametrize("score", [2.0, 0.5])
def test_a_publisher_at_a_broker_of_small_packets_sends_short_verdicts(scene: Scene, score: float) -> None:
    scene.link.packet_room = 280
    scene.part(score)
    scene.turn(later_ms=60)
    for _, _, payload in scene.link.sent:
        assert payload.keys() >= NEEDED
        assert "snapshot" not in payload
    assert scene.link.statuses[-1].keys() >= {"schema", "state", "ready", "reason", "session", "utc"}
    assert len(json.dumps(scene.link.statuses[-1], separators=(",", ":"))) <= 280


def test_without_retained_messages_the_status_is_repeated_every_second(scene: Scene) -> None:
    for _ in range(100):
        scene.turn(later_ms=50)
    assert len(scene.link.statuses) == 1
    scene.link.keeps_retained = False
    for _ in range(100):
        scene.turn(later_ms=50)
    assert 5 <= len(scene.link.statuses) <= 7
