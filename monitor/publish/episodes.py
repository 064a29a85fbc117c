"""The rule for which frames of a live view are published: the first of each episode, and every pass.

It knows nothing of parts: every part is published. On a frame's way it stands between the closed frame and
its delivery.

An episode is a run of frames with the same verdict and reason, since a defect stays in view for many frames;
a pass ends it. Where a camera is faster than the scorer, superseded frames come between the judged ones. So
superseded frames have episodes of their own and do not end another one.
"""

from __future__ import annotations

from monitor.line_state.ring import FinalVerdict
from monitor.verdict import Reason, Verdict

SUPERSEDED_APART_NS = 60 * 1_000_000_000
"""Superseded frames that are closed further apart than this belong to different episodes."""


class Episodes:
    """The episodes of one camera."""

    def __init__(self) -> None:
        self._present: tuple[Verdict, Reason] = (Verdict.PASS, Reason.NONE)
        self._superseded_ns: int | None = None

    def is_event(self, closed: FinalVerdict) -> bool:
        """Whether the next closed frame is published: a pass, or the first frame of an episode. Call it once
        for every closed frame, in order."""
        if closed.reason is Reason.SUPERSEDED:
            last, self._superseded_ns = self._superseded_ns, closed.closed_ns
            return last is None or closed.closed_ns - last > SUPERSEDED_APART_NS
        before, self._present = self._present, (closed.verdict, closed.reason)
        return closed.verdict is Verdict.PASS or self._present != before
