"""Payloads that fit into the packets that a broker takes: long ones lose the fields that can be done without.

It knows nothing of connections. A gateway needs the fields that are never left out: which part, its verdict
and until when it counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from monitor.publish.broker_limits import measure_publish
from monitor.settings import Settings
from monitor.verdict import Event, Reason, Verdict

VERDICT_EXTRAS = (
    "snapshot",
    "version",
    "recipe_sha",
    "decided_utc",
    "threshold",
    "score",
    "part",
    "recipe",
    "reason",
    "challenge",
)
"""The fields of a verdict that can be left out, in this order."""
STATUS_EXTRAS = ("challenge", "latched", "without_time", "drift", "journal", "audit", "cameras")
HEARTBEAT_EXTRAS = ("counts",)
RECIPE_EXTRAS = ("reason", "in_force", "recipe_sha", "utc")
_LONGEST_NUMBER = -1.2345678901234567e-100
_LATEST_NS = 4_102_444_800_000_000_000


def encode_short(payload: Mapping[str, Any], extras: Sequence[str], most: int | None) -> bytes:
    """The payload as JSON of at most `most` bytes, as far as that can be had by leaving out `extras`: first
    those that are null, which tell nothing, then the others in their order. None is no limit. The result may
    still be longer."""
    encoded = msgspec.json.encode(payload)
    left = dict(payload)
    for key in sorted(extras, key=lambda key: payload.get(key) is not None):
        if most is None or len(encoded) <= most:
            break
        left.pop(key, None)
        encoded = msgspec.json.encode(left)
    return encoded


def make_largest_event(settings: Settings, session: str) -> Event:
    """An event whose message is as long as one of this line can be. It is no verdict on a part: it is
    uninspected, and its frame is 0, which no frame is."""
    names = [camera.name for camera in settings.camera]
    camera, longest = max(names, key=len, default="camera"), "x" * 32
    words = (reason for reason in Reason if reason.word)
    parts = [part.id for part in settings.challenge.part]
    return Event(
        prefix=settings.prefix,
        camera=camera,
        session=session,
        frame=0,
        part=10**12,
        verdict=Verdict.UNINSPECTED,
        reason=max(words, key=lambda reason: len(reason.word or "")),
        score=_LONGEST_NUMBER,
        threshold=_LONGEST_NUMBER,
        recipe=longest,
        recipe_sha="0" * 64,
        captured_utc_ns=_LATEST_NS,
        decided_utc_ns=_LATEST_NS,
        expires_utc_ns=_LATEST_NS,
        version=10**9 - 1,
        challenge=max(parts, key=len, default=None),
        snapshot=f"2100-01-01/{camera}/000000000_{camera}_{10**12}_{_LONGEST_NUMBER:.4g}.jpg",
    )


def measure_verdicts(settings: Settings, session: str) -> tuple[int, int]:
    """The sizes of the packets of the largest verdict with all fields that are not null, and of the same one
    without what can be left out."""
    event = make_largest_event(settings, session)
    topic = f"{settings.prefix}/{event.camera}/verdict"
    told = {key: value for key, value in event.payload(10**7).items() if value is not None}
    payload = {**told, "frame": 10**12}
    full, short = (encode_short(payload, VERDICT_EXTRAS, most) for most in (None, 0))
    protocol = settings.mqtt.protocol
    return (
        measure_publish(topic, len(full), expires=True, protocol=protocol),
        measure_publish(topic, len(short), expires=True, protocol=protocol),
    )
