"""Verdict and reason of one frame, the rule from score to verdict, and the MQTT payload of a verdict.

Knows nothing of cameras, rings or sending. The numbers of `Verdict` and `Reason` are stored in rings, their
names in MQTT payloads and journals: neither may change.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

SCHEMA = 1
_EVENTS = uuid.UUID("6f7b1c1e-3d0a-5a53-9b55-0d3f8f0f6c11")


class Verdict(IntEnum):
    """What the line decides about one frame."""

    PASS = 1
    REJECT = 2
    UNINSPECTED = 3

    @property
    def word(self) -> str:
        """As in payloads and the journal."""
        return self.name.lower()


class Reason(IntEnum):
    """Why a part is uninspected, or why a frame passed without a score."""

    NONE = 0
    DEADLINE = 1
    QUEUE_FULL = 2
    SUPERSEDED = 3
    BAD_FRAME = 4
    BAD_SCORE = 5
    SCORER_LOST = 6
    CAPTURE_LOST = 7
    PUBLISHER_LOST = 8
    NO_RECIPE = 9
    NO_FRAME = 10
    PART_MISMATCH = 11
    NO_PART = 12
    """The frame passed because the recipe's presence gate found no part in it."""

    @property
    def word(self) -> str | None:
        """As in payloads and the journal; None for NONE."""
        return None if self is Reason.NONE else self.name.lower()


def judge(score: float, threshold: float) -> tuple[Verdict, Reason]:
    """Reject above the threshold, pass at or below it. Never a pass where either number is not finite."""
    if not (math.isfinite(score) and math.isfinite(threshold)):
        return Verdict.UNINSPECTED, Reason.BAD_SCORE
    return (Verdict.REJECT if score > threshold else Verdict.PASS), Reason.NONE


@dataclass(frozen=True, slots=True)
class Event:
    """One frame's verdict with all that MQTT, journal and snapshots tell of it. Times are UTC nanoseconds."""

    prefix: str
    camera: str
    session: str
    frame: int
    part: int | None
    verdict: Verdict
    reason: Reason
    score: float | None
    threshold: float | None
    recipe: str
    recipe_sha: str | None
    captured_utc_ns: int
    decided_utc_ns: int
    expires_utc_ns: int
    snapshot: str | None
    version: int | None = None
    """The number of the recipe's version; None where it is not known."""
    challenge: str | None = None
    """The id of the challenge part that the frame shows; None for a frame of production."""

    @property
    def event_id(self) -> str:
        """The same for every message about this frame, so that a receiver recognises a repeat."""
        return str(uuid.uuid5(_EVENTS, f"{self.prefix}/{self.camera}/{self.session}/{self.frame}"))

    def payload(self, ttl_ms: int) -> dict[str, Any]:
        """The payload of `P/{camera}/verdict` and `reject`; `ttl_ms` is what is left of the time to live."""
        return {
            "schema": SCHEMA,
            "event_id": self.event_id,
            "session": self.session,
            "camera": self.camera,
            "frame": self.frame,
            "part": self.part,
            "verdict": self.verdict.word,
            "reason": self.reason.word,
            "score": _finite(self.score),
            "threshold": _finite(self.threshold),
            "recipe": self.recipe,
            "recipe_sha": self.recipe_sha,
            "version": self.version,
            "captured_utc": rfc3339(self.captured_utc_ns),
            "decided_utc": rfc3339(self.decided_utc_ns),
            "expires_utc": rfc3339(self.expires_utc_ns),
            "ttl_ms": ttl_ms,
            "snapshot": self.snapshot,
            "challenge": self.challenge,
        }


def snapshot_path(captured_utc_ns: int, camera: str, frame: int, score: float) -> str:
    """The path of a frame's snapshot below `snapshots/`:
    `<day>/<camera>/<HHMMSSmmm>_<camera>_<frame>_<score>.jpg`, in UTC."""
    moment = datetime.fromtimestamp(captured_utc_ns // 1_000_000 / 1000, UTC)
    clock = f"{moment:%H%M%S}{moment.microsecond // 1000:03d}"
    return f"{moment:%Y-%m-%d}/{camera}/{clock}_{camera}_{frame}_{score:.4g}.jpg"


def rfc3339(utc_ns: int) -> str:
    """RFC 3339 in UTC with milliseconds, as in `2026-11-23T18:00:00.123Z`."""
    seconds, rest = divmod(utc_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def rfc3339_seconds(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as in `2026-11-23T18:00:00Z`. `moment` is in UTC."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
