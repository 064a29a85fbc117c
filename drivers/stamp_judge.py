"""Decides whether a stream's time stamps can tell times at all, and says why not.

It knows nothing of waits: `StreamClock` says of each stamp whether it makes sense.
"""

from __future__ import annotations

from collections import deque

_STAMPS = 16
_FEWEST = 3
_RUN_NS = 3_000_000_000
_BOUND = 0.28
"""The largest rate that `StreamClock` learns, and 3 % for the jitter in a measurement over 3 s."""


class StampJudge:
    """Decides whether a stream's stamps can tell times at all."""

    def __init__(self) -> None:
        self._stamps: deque[str] = deque(maxlen=_STAMPS)
        """For each of the last images what is wrong with its stamp; empty for nothing."""
        self._run = (0, 0)
        self._wrong_rate: str | None = None
        self._why: str | None = None

    def judge(self, advance: int | None, told: bool, between: int, steady: bool) -> str | None:
        """Why the stamps can't be used, or None. `between` is the time since the image before; `steady` is
        whether both images arrived at the usual distance; `told` whether the stamp's advance makes sense."""
        self._stamps.append("" if told else _describe(advance, between))
        wrong = [why for why in self._stamps if why]
        if len(wrong) > _STAMPS // 2 or len(wrong) == len(self._stamps) >= _FEWEST:
            self._why = max(wrong, key=wrong.count)
        elif not wrong and len(self._stamps) >= _FEWEST:
            self._why = None
        if not steady:
            self._run = (0, 0)
        elif told and advance is not None:
            self._measure(advance, between)
        return self._why or self._wrong_rate

    def _measure(self, advance: int, between: int) -> None:
        """Compare stamps and arrivals over 3 s of steady images."""
        self._run = self._run[0] + advance, self._run[1] + between
        if self._run[1] < _RUN_NS:
            return
        share = self._run[0] / self._run[1] - 1
        too_much = abs(1 / (1 + share) - 1) > _BOUND
        self._run = (0, 0)
        self._wrong_rate = (
            f"its time stamps run {abs(share):.0%} too {'fast' if share > 0 else 'slow'}"
            if too_much
            else None
        )


def _describe(advance: int | None, between: int) -> str:
    if advance is None:
        return "its images have no time stamps"
    if advance == 0:
        return "its time stamps stand still"
    return "its time stamps run far too slow" if 0 < 2 * advance < between else "its time stamps jump"
