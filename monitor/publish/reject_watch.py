"""The rule for when so many parts are rejected that the line must stop: a tool or the inspection is broken.

It knows nothing of MQTT or rings: it takes verdicts and returns a latch, and changes no part's verdict. Only
judged parts count: an uninspected part gives no information about the parts, and a frame without a part
neither ends a run of rejects nor lengthens it.
"""

from __future__ import annotations

from collections import deque

from monitor.line_state.latch_file import Latch
from monitor.settings import CameraSettings
from monitor.verdict import Reason, Verdict


class RejectWatch:
    """Counts one camera's rejects in a row, and its rejects among the last judged parts."""

    def __init__(self, camera: CameraSettings) -> None:
        self._most_in_a_row = camera.stop_after_rejects
        self._most_share, self._size = camera.stop_reject_rate, camera.stop_reject_window
        self._window: deque[bool] = deque(maxlen=self._size)
        self._rejects = self._in_a_row = 0

    @property
    def looks_back(self) -> int:
        """The number of last judged parts that the rule needs: a new watch that is fed these parts continues
        an earlier watch. 0 where both limits are off."""
        return max(self._most_in_a_row, self._size if self._most_share > 0 else 0)

    def feed(self, verdict: Verdict, reason: Reason = Reason.NONE) -> Latch:
        """Adds the next frame's verdict. Returns the latch to set: NONE, REJECT_RUN or REJECT_RATE."""
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
        # The share is taken of the whole window also while the window fills: so many rejects exceed it even
        # if all further parts pass.
        if self._most_share > 0 and self._rejects / self._size > self._most_share:
            return Latch.REJECT_RATE
        return Latch.NONE

    def clear(self) -> None:
        """Forgets all parts, after a reset of the line."""
        self._window.clear()
        self._rejects = self._in_a_row = 0
