"""Whether so many parts are rejected that the line should stop: a tool has broken, or the inspection has.

Pure: verdicts in, a latch out. It counts judged parts alone, since an uninspected one says nothing about the
parts, nor does a frame that shows none: that neither ends a run nor lengthens it. It decides about no part.
"""

from __future__ import annotations

from collections import deque

from monitor.line_state.latch import Latch
from monitor.settings import CameraSettings
from monitor.verdict import Reason, Verdict


class RejectWatch:
    """One camera's rejects in a row, and among its last judged parts."""

    def __init__(self, camera: CameraSettings) -> None:
        self._most_in_a_row = camera.stop_after_rejects
        self._most_share, self._size = camera.stop_reject_rate, camera.stop_reject_window
        self._window: deque[bool] = deque(maxlen=self._size)
        self._rejects = self._in_a_row = 0

    @property
    def looks_back(self) -> int:
        """How many judged parts decide; whoever takes up after another watch feeds it these. 0: it is off."""
        return max(self._most_in_a_row, self._size if self._most_share > 0 else 0)

    def feed(self, verdict: Verdict, reason: Reason = Reason.NONE) -> Latch:
        """Takes in the next frame's verdict. What it asks for: NONE, REJECT_RUN or REJECT_RATE."""
        if verdict is Verdict.UNINSPECTED or reason is Reason.NO_PART:
            return Latch.NONE
        rejected = verdict is Verdict.REJECT
        self._in_a_row = self._in_a_row + 1 if rejected else 0
        if len(self._window) == self._size:
            self._rejects -= self._window[0]
        self._window.append(rejected)
        self._rejects += rejected
        if not rejected:
            return Latch.NONE
        if self._most_in_a_row and self._in_a_row >= self._most_in_a_row:
            return Latch.REJECT_RUN
        # Of the whole window, also while it fills: so many rejects are too many whatever follows.
        if self._most_share > 0 and self._rejects / self._size > self._most_share:
            return Latch.REJECT_RATE
        return Latch.NONE

    def clear(self) -> None:
        """After a reset: what was before it counts no more."""
        self._window.clear()
        self._rejects = self._in_a_row = 0
