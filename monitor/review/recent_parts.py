"""Follows a camera's ring: whether each of its newest parts was judged.

It decides nothing: `unjudged_share` has the rule. Each call looks only at the frames since the one before, so
it is cheap however often the page asks.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque

from monitor.line_state.ring import Ring
from monitor.review.unjudged_share import (
    FEWEST_PARTS,
    WINDOW_NS,
    PartOutcome,
    UnjudgedShare,
    find_unjudged_share,
)
from monitor.verdict import Reason, Verdict

MOST_PARTS = 6000
"""100 parts a second for a minute."""


class RecentParts:
    """The newest parts of one camera. Safe for several threads."""

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._lock = threading.Lock()
        self._session: uuid.UUID | None = None
        self._checked = 0
        """The last frame whose verdict was read."""
        self._parts: deque[PartOutcome] = deque(maxlen=MOST_PARTS)
        self._begins = True
        """Whether none of the session's parts was judged so far, as far as they were read."""

    def find_unjudged_share(self, ring: Ring, now_ns: int) -> UnjudgedShare | None:
        """The share of unjudged parts where it is too large."""
        with self._lock:
            self._follow(ring, now_ns)
            while len(self._parts) > FEWEST_PARTS and self._parts[0].captured_ns < now_ns - WINDOW_NS:
                self._parts.popleft()
            return find_unjudged_share(self._camera, tuple(self._parts), now_ns)

    def _follow(self, ring: Ring, now_ns: int) -> None:
        last = ring.last_frame()
        if ring.session != self._session:
            self._session, self._checked, self._begins = ring.session, 0, True
            self._parts.clear()
        is_far = last - self._checked > FEWEST_PARTS
        if is_far and (oldest := _find_oldest(ring, last, now_ns)) > self._checked + 1:
            # Nobody has looked for a while.
            self._parts.clear()
            self._checked, self._begins = oldest - 1, False
        while self._checked < last and (closed := ring.final_verdict(self._checked + 1)) is not None:
            self._checked += 1
            frame = ring.frame(self._checked)
            if frame is None or closed.challenge or closed.reason is Reason.NO_PART:
                continue
            unjudged = closed.reason if closed.verdict is Verdict.UNINSPECTED else None
            if unjudged is None and self._begins:
                # The parts before the session's first judged one passed while the line started.
                self._parts.clear()
                self._begins = False
            self._parts.append(PartOutcome(frame.captured_ns, unjudged))


def _find_oldest(ring: Ring, last: int, now_ns: int) -> int:
    """The oldest frame that can count: found by halving, since frames are numbered in their order."""
    low, high = max(1, last - MOST_PARTS + 1), max(1, last - FEWEST_PARTS + 1)
    while low < high:
        middle = (low + high) // 2
        frame = ring.frame(middle)
        if frame is None or frame.captured_ns < now_ns - WINDOW_NS:
            low = middle + 1
        else:
            high = middle
    return low
