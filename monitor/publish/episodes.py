"""Which frames of a live view are published: one an episode, since a defect stays in view for many frames.

An episode is a run of frames with the same verdict and reason; a pass ends it, and every pass is published.
Superseded frames come between the judged ones wherever a camera is faster than the scorer, so they form an
episode of their own and end no other. Knows nothing of parts: every part is published.
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
        """Takes in the next closed frame. Whether it is published: a pass, or the first of an episode."""
        if closed.reason is Reason.SUPERSEDED:
            last, self._superseded_ns = self._superseded_ns, closed.closed_ns
            return last is None or closed.closed_ns - last > SUPERSEDED_APART_NS
        before, self._present = self._present, (closed.verdict, closed.reason)
        return closed.verdict is Verdict.PASS or self._present != before
