"""How long one call of the scorer takes, as far as the schedule needs to know it.

It knows nothing of frames or recipes: it takes the times of turns that have ended and gives an estimate for
the next one.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

_LANES_RETRY = 100
"""The times of lanes are forgotten after more than this many single turns since the last run. So a run is
tried again where lanes took too long before."""
_LANE_LIMIT = 2.2
"""Lanes are used up to this multiple of a single turn's time. It is above 2, because single turns are timed
when little else needs the processor, and lanes when much does."""

_LEAST_ALIVE_S, _MOST_ALIVE_S = 1.5, 10.0
_USUAL_TURNS = 3


def alive_within_s(turns_ns: Iterable[int]) -> float:
    """The time within which the scoring worker reports again that it is alive: three of its longest usual
    turns. On an overloaded computer a turn takes seconds, and a slow worker must not count as lost."""
    longest_s = max(turns_ns, default=0) / 1e9
    return min(_MOST_ALIVE_S, max(_LEAST_ALIVE_S, _USUAL_TURNS * longest_s))


class TurnTime:
    """An estimate of how long a turn takes: the median of the last few turns.

    Scoring a frame that will miss its deadline wastes the time of the next one, so an overloaded scorer needs
    the estimate to judge any frame at all. The median ignores a single slow turn. Each plan that gives up
    frames because of the estimate lowers the estimate once, so that soon a frame is scored again and its time
    replaces the estimate.
    """

    def __init__(self, remembered: int = 5) -> None:
        self._all_turns: deque[int] = deque(maxlen=remembered)
        self._single_turns: deque[int] = deque(maxlen=remembered)
        self._lanes: deque[int] = deque(maxlen=3 * remembered)
        """More than turns: a few slow ones must not end all runs for a while."""
        self._singles_since_run = 0
        self._factor = 1.0

    @property
    def usual_ns(self) -> int:
        """The median of the last few turns, which `lower` does not change; 0 before the first turn."""
        return int(statistics.median(self._all_turns)) if self._all_turns else 0

    @property
    def estimate_ns(self) -> int:
        """The time of a single turn; 0 before the first turn."""
        return int(self.usual_ns * self._factor)

    @property
    def lane_ns(self) -> int:
        """The time of a part in a lane: at least that of a single turn, and twice that before the first run.

        0 where lanes took too long lately: then no run begins.
        """
        if not self._lanes or not self._single_turns:
            return 2 * self.estimate_ns
        known = int(statistics.median(self._lanes))
        too_long = known > _LANE_LIMIT * statistics.median(self._single_turns)
        return 0 if too_long else max(self.estimate_ns, known)

    def add(self, elapsed_ns: int) -> None:
        """Add the time of a turn that has just ended and was not a run."""
        self._all_turns.append(elapsed_ns)
        self._single_turns.append(elapsed_ns)
        self._singles_since_run += 1
        if self._singles_since_run > _LANES_RETRY:
            self._lanes.clear()
        self._factor = 1.0

    def add_lane(self, elapsed_ns: int) -> None:
        """Add the time that a part has just taken in a lane."""
        self._lanes.append(elapsed_ns)
        self._singles_since_run = 0
        if elapsed_ns > _LANE_LIMIT * self.estimate_ns:
            # The scorer has become slower, but there may be too few single turns to measure that.
            self._all_turns.append(elapsed_ns // 2)
        self._factor = 1.0

    def forget_lanes(self) -> None:
        """Start anew with lanes, since another recipe judges."""
        self._lanes.clear()

    def lower(self) -> None:
        """Lower the estimate by a fifth, after a plan gave up frames because of it."""
        self._factor *= 0.8
