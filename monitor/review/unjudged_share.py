"""How many of a camera's newest parts were not judged, and when that is too many: the rule for the amber bar.

It knows nothing of rings and pages: its functions are pure. The run permission is not changed by it: the gate
removes a part without a verdict in time, but a person must know that parts are not inspected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from monitor.publish.status import OperatingState
from monitor.review.state_banner import Light, ServiceState, StateBanner, describe_state
from monitor.review.uninspected_reasons import explain_reason
from monitor.verdict import Reason

WINDOW_NS = 60 * 1_000_000_000
"""The time in which parts are counted: the bar stays amber until a whole minute is better."""
FEWEST_PARTS = 20
"""Where a minute has fewer parts, so many of the newest ones count, as far as `LONGEST_NS` goes back."""
LONGEST_NS = 600 * 1_000_000_000
TOLERATED_PARTS, TOLERATED_SHARE = 1, 0.02
"""One part in a minute, or less than 2 % of them, says nothing about the next part."""


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """Whether one part was judged."""

    captured_ns: int
    """CLOCK_MONOTONIC."""
    unjudged: Reason | None
    """Why it was not judged; None: it was."""


@dataclass(frozen=True, slots=True)
class UnjudgedShare:
    """Too many of a camera's newest parts were not judged."""

    camera: str
    unjudged: int
    parts: int
    reason: Reason
    """The most frequent one."""


def choose_counted(parts: Sequence[PartOutcome], now_ns: int) -> Sequence[PartOutcome]:
    """The parts that count now, of a camera's newest parts, oldest first."""
    first = len(parts)
    while first and _counts(parts[first - 1], len(parts) - first, now_ns):
        first -= 1
    return parts[first:]


def _counts(part: PartOutcome, newer: int, now_ns: int) -> bool:
    age_ns = now_ns - part.captured_ns
    return age_ns <= WINDOW_NS or (newer < FEWEST_PARTS and age_ns <= LONGEST_NS)


def find_unjudged_share(camera: str, parts: Sequence[PartOutcome], now_ns: int) -> UnjudgedShare | None:
    """The share of unjudged parts where it is too large; `parts` are the camera's newest ones, oldest
    first."""
    counted = choose_counted(parts, now_ns)
    reasons = Counter(part.unjudged for part in counted if part.unjudged is not None)
    unjudged = reasons.total()
    if unjudged <= TOLERATED_PARTS or unjudged < TOLERATED_SHARE * len(counted):
        return None
    return UnjudgedShare(camera, unjudged, len(counted), reasons.most_common(1)[0][0])


def add_to_banner(banner: StateBanner, shares: Iterable[UnjudgedShare]) -> StateBanner:
    """The banner of a line that is ready; amber, with the numbers, where too many parts were not judged."""
    worst = sorted(shares, key=lambda share: share.unjudged / share.parts, reverse=True)
    if not worst or banner.light not in (Light.GREEN, Light.AMBER):
        return banner
    look = describe_state(ServiceState.RUNNING, OperatingState.DEGRADED, None, is_ready=True, may_run=True)
    sentences = [_state_share(share) for share in worst]
    if banner.light is Light.AMBER:
        sentences.append(banner.sentence)
    return replace(look, sentence=" ".join(sentences))


def _state_share(share: UnjudgedShare) -> str:
    return (
        f"Camera {share.camera}: {share.unjudged} of the last {share.parts} parts were not judged "
        f"({explain_reason(share.reason.word)})."
    )
