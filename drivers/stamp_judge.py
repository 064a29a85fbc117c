"""Decides whether a stream's time stamps can tell times at all, and says why not.

It knows nothing of waits: `StreamClock` says of each stamp whether it makes sense.
"""

from __future__ import annotations

from collections import deque

_STAMPS = 16
_FEWEST = 3
_RUN_NS = 3_000_000_000
_RUN_DOUBT = 0.03
"""Jitter falsifies a rate that is measured over 3 s by less than this."""


class StampJudge:
    """Decides whether a stream's stamps can tell times at all."""

    def __init__(self) -> None:
        self._stamps: deque[str] = deque(maxlen=_STAMPS)
        """For each of the last images what is wrong with its stamp; empty for nothing."""
        self._run = (0, 0)
        self._wrong_rate: str | None = None
        self._why: str | None = None

    def judge(self, advance: int | None, told: bool, between: int | None, bound: float) -> str | None:
        """Why the stamps can't be used, or None. `between` is the time since the image before where both
        arrived at the usual distance; `bound` is the largest rate that can be learnt."""
        self._stamps.append("" if told else _describe(advance))
        wrong = [why for why in self._stamps if why]
        if len(wrong) > _STAMPS // 2 or (len(wrong) == len(self._stamps) >= 3):
            self._why = max(wrong, key=wrong.count)
        elif not wrong and len(self._stamps) >= 3:
            self._why = None
        if told and advance is not None and between is not None:
            self._measure(advance, between, bound)
        else:
            self._run = (0, 0)
        return self._why or self._wrong_rate

    def _measure(self, advance: int, between: int, bound: float) -> None:
        """Compare stamps and arrivals over 3 s of steady images."""
        self._run = self._run[0] + advance, self._run[1] + between
        if self._run[1] < _RUN_NS:
            return
        rate = self._run[1] / self._run[0] - 1
        self._run = (0, 0)
        kind = "slow" if rate > 0 else "fast"
        too_much = abs(rate) > bound + _RUN_DOUBT
        self._wrong_rate = (
            f"its time stamps run {abs(rate) / (1 + rate):.0%} too {kind}" if too_much else None
        )


def _describe(advance: int | None) -> str:
    if advance is None:
        return "its images have no time stamps"
    return "its time stamps stand still" if advance == 0 else "its time stamps jump"
