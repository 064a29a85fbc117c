"""How many frames of a camera passed, were rejected, are uninspected or in flight, read from its ring.

It knows nothing of who shows the counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.line_state.ring import Closed, Ring, Tally
from monitor.verdict import Reason, Verdict


@dataclass(frozen=True, slots=True)
class Counts:
    """One camera's frames at one moment: frames = passed + rejected + uninspected + in_flight."""

    frames: int
    passed: int
    rejected: int
    uninspected: tuple[int, ...]
    """By `Reason` number."""
    missed_rejects: int
    no_part: int = 0
    """Of the passed ones, those that showed no part."""

    @property
    def in_flight(self) -> int:
        return self.frames - self.passed - self.rejected - sum(self.uninspected)


def counts(ring: Ring) -> Counts:
    """Adds what is closed beyond the publisher's tally to it."""
    last = ring.last_frame()
    tally: Tally = ring.tally()
    passed, rejected, uninspected = tally.passed, tally.rejected, list(tally.uninspected)
    no_part = tally.no_part
    last = max(last, tally.cursor)
    for number in range(tally.cursor + 1, last + 1):
        closed: Closed | None = ring.closed(number)
        if closed is None:
            continue
        passed += closed.verdict is Verdict.PASS
        no_part += closed.reason is Reason.NO_PART
        rejected += closed.verdict is Verdict.REJECT
        if closed.verdict is Verdict.UNINSPECTED:
            uninspected[closed.reason] += 1
    return Counts(last, passed, rejected, tuple(uninspected), tally.missed_rejects, no_part)
