"""The bar is amber with the numbers while too many of the newest parts were not judged, never red."""

from __future__ import annotations

from monitor.publish.status import OperatingState
from monitor.review.state_banner import Light, ServiceState, StateBanner, describe_state
from monitor.review.unjudged_share import (
    PartOutcome,
    UnjudgedShare,
    add_to_banner,
    find_unjudged_share,
)
from monitor.verdict import Reason

SECOND = 1_000_000_000
NOW = 10_000 * SECOND


def parts(pattern: str, every_s: float = 0.5, newest_s: float = 0.0) -> list[PartOutcome]:
    """`x` is a part that was not judged in time, `.` a judged one; the newest is the last."""
    return [
        PartOutcome(
            NOW - int((newest_s + every_s * (len(pattern) - 1 - i)) * SECOND),
            Reason.DEADLINE if mark == "x" else None,
        )
        for i, mark in enumerate(pattern)
    ]


def ready_banner(reason: str | None = None) -> StateBanner:
    state = OperatingState.DEGRADED if reason else OperatingState.INSPECTING
    return describe_state(ServiceState.RUNNING, state, reason, is_ready=True, may_run=True)


def test_ninety_one_of_a_hundred_and_twenty_parts_are_stated_until_a_whole_minute_is_better() -> None:
    minute = "x" * 91 + "." * 29
    assert find_unjudged_share("top", parts(minute), NOW) == UnjudgedShare("top", 91, 120, Reason.DEADLINE)
    # Half a minute later the line still has judged well for less than a minute.
    assert find_unjudged_share("top", parts(minute + "." * 60), NOW) is not None
    assert find_unjudged_share("top", parts(minute + "." * 120), NOW) is None


def test_one_lost_part_or_a_share_below_two_per_cent_is_no_news() -> None:
    assert find_unjudged_share("top", parts("." * 10 + "x" + "." * 10), NOW) is None
    assert find_unjudged_share("top", parts("." * 59 + "xx" + "." * 59), NOW) is None
    assert find_unjudged_share("top", parts("." * 58 + "xxx" + "." * 59), NOW) is not None


def test_a_slow_line_and_a_line_that_has_just_stopped_are_judged_by_their_newest_parts() -> None:
    slow = parts("x." * 15, every_s=20)
    assert find_unjudged_share("top", slow, NOW) == UnjudgedShare("top", 10, 20, Reason.DEADLINE)
    assert find_unjudged_share("top", parts("x" * 40, newest_s=120), NOW) is not None
    assert find_unjudged_share("top", parts("x" * 40, newest_s=900), NOW) is None


def test_the_bar_is_amber_and_keeps_what_else_a_person_must_look_at() -> None:
    shares = [UnjudgedShare("side", 3, 120, Reason.DEADLINE), UnjudgedShare("top", 91, 120, Reason.NO_RECIPE)]
    banner = add_to_banner(ready_banner(), shares)
    assert (banner.light, banner.headline) == (Light.AMBER, "Ready, but look")
    assert banner.sentence.startswith("Camera top: 91 of the last 120 parts were not judged")
    assert "Camera side: 3 of the last 120" in banner.sentence
    drifting = add_to_banner(ready_banner("drift"), shares)
    assert drifting.light is Light.AMBER
    assert ready_banner("drift").sentence in drifting.sentence
    assert add_to_banner(ready_banner(), []) == ready_banner()
