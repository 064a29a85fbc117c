"""The number of a camera's frames that passed, were rejected, are uninspected or in flight, from its ring.

It knows nothing of who shows the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.line_state.ring import Ring


@dataclass(frozen=True, slots=True)
class Counts:
    """One camera's frames at one moment: frames = passed + rejected + uninspected + challenges + in_flight.
    Without challenge parts there are no challenges."""

    frames: int
    passed: int
    rejected: int
    uninspected: tuple[int, ...]
    """By `Reason` number."""
    missed_rejects: int
    no_part: int = 0
    """The passed frames that showed no part."""
    challenges: tuple[int, int, int] = (0, 0, 0)
    """The frames that showed a challenge part: passed, rejected, uninspected. They are no production."""

    @property
    def in_flight(self) -> int:
        closed = self.passed + self.rejected + sum(self.uninspected) + sum(self.challenges)
        return self.frames - closed


@dataclass(frozen=True, slots=True)
class PartCounts:
    """The parts of several cameras since the session's start. Frames without a part and challenge parts are
    no production and not among them."""

    passed: int
    rejected: int
    uninspected: int


def count_verdicts(ring: Ring) -> Counts:
    """The publisher's tally plus the verdicts of the closed frames that are not in the tally yet."""
    last = ring.last_frame()
    tally = ring.tally()
    last = max(last, tally.cursor)
    for number in range(tally.cursor + 1, last + 1):
        if (closed := ring.final_verdict(number)) is not None:
            tally = tally.add(closed)
    return Counts(
        frames=last,
        passed=tally.passed,
        rejected=tally.rejected,
        uninspected=tally.uninspected,
        missed_rejects=tally.missed_rejects,
        no_part=tally.no_part,
        challenges=tally.challenges,
    )


def count_parts(rings: Sequence[Ring]) -> PartCounts | None:
    """The parts of these rings together; None for no rings."""
    if not rings:
        return None
    counts = [count_verdicts(ring) for ring in rings]
    return PartCounts(
        passed=sum(one.passed - one.no_part for one in counts),
        rejected=sum(one.rejected for one in counts),
        uninspected=sum(sum(one.uninspected) for one in counts),
    )
