"""The newest parts of a ring, look by look: those that pass while the line starts never count."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any, cast

from monitor.line_state.ring import Ring
from monitor.review.recent_parts import RecentParts
from monitor.review.unjudged_share import UnjudgedShare
from monitor.verdict import Reason, Verdict

SECOND = 1_000_000_000
START = 1_000 * SECOND


class Parts:
    """As much of a ring as `RecentParts` reads; three parts a second."""

    def __init__(self, pattern: str) -> None:
        """`x` is a part that was not judged, `.` a judged one."""
        self.session = uuid.UUID(int=1)
        self._pattern, self._last = pattern, 0

    def grow(self) -> int:
        """Adds the next part and returns its time."""
        self._last += 1
        return int(self.frame(self._last).captured_ns)

    def last_frame(self) -> int:
        return self._last

    def frame(self, number: int) -> Any:
        return SimpleNamespace(captured_ns=START + number * SECOND // 3)

    def final_verdict(self, number: int) -> Any:
        if self._pattern[number - 1] == "x":
            return SimpleNamespace(verdict=Verdict.UNINSPECTED, reason=Reason.DEADLINE, challenge=0)
        return SimpleNamespace(verdict=Verdict.PASS, reason=Reason.NONE, challenge=0)


def follow(pattern: str) -> list[UnjudgedShare | None]:
    """What each look says, one look a part."""
    ring, recent = Parts(pattern), RecentParts("top")
    return [recent.find_unjudged_share(cast(Ring, ring), ring.grow()) for _ in pattern]


def test_parts_that_pass_while_the_line_starts_do_not_count_once_one_is_judged() -> None:
    # For two minutes: also while the first of them are older than a minute, and the last are not.
    looks = follow("x" * 30 + "." * 330)
    assert looks[29] == UnjudgedShare("top", 30, 30, Reason.DEADLINE)
    assert not any(looks[30:])


def test_parts_of_a_start_that_takes_longer_than_a_minute_do_not_count_either() -> None:
    assert not any(follow("x" * 240 + "." * 200)[240:])


def test_parts_that_are_not_judged_later_count() -> None:
    assert follow("x" * 30 + "." + "xx")[-1] == UnjudgedShare("top", 2, 3, Reason.DEADLINE)
