"""How long one call of the scorer takes, as far as the schedule needs to know it.

It knows nothing of frames or recipes: it takes the times of turns that have ended and gives an estimate for
the next one.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

_PAIR_RETRY = 500
"""The times of pairs are forgotten after more than this many single turns since the last pair. So a pair is
tried again where pairs took no less time than two single turns before."""

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
        self._pairs: deque[int] = deque(maxlen=remembered)
        self._singles_since_pair = 0
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
    def pair_ns(self) -> int:
        """The time of a pair: at least that of a single turn, and twice that before the first pair.

        0 where the last pairs took no less time than two single turns: then no pair is made.
        """
        if not self._pairs or not self._single_turns:
            return 2 * self.estimate_ns
        known = int(statistics.median(self._pairs))
        return max(self.estimate_ns, known) if known < 2 * statistics.median(self._single_turns) else 0

    def add(self, elapsed_ns: int, *, pair: bool = False) -> None:
        """Add the time of a turn that has just ended."""
        if pair:
            self._pairs.append(elapsed_ns)
            self._singles_since_pair = 0
            if elapsed_ns > 2 * self.estimate_ns:
                # The scorer has become slower, but there may be too few single turns to measure that.
                self._all_turns.append(elapsed_ns // 2)
        else:
            self._all_turns.append(elapsed_ns)
            self._single_turns.append(elapsed_ns)
            self._singles_since_pair += 1
            if self._singles_since_pair > _PAIR_RETRY:
                self._pairs.clear()
        self._factor = 1.0

    def lower(self) -> None:
        """Lower the estimate by a fifth, after a plan gave up frames because of it."""
        self._factor *= 0.8
