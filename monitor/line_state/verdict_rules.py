"""Every frame's one verdict: pure decisions over what a ring says and what the clock says.

Nothing here reads a clock, a ring or a socket. The rules, in the order in which a frame meets them:

1. What capture could not offer for scoring is uninspected at once.
2. Before `decide_by`, the scorer's verdict stands as soon as it is there.
3. At `decide_by` a frame without one is uninspected, so that this can still be published by its deadline.
4. A frame found open after its deadline (the publisher was away) keeps a reject that was scored in time,
   since the gate may still be able to act; a pass that comes too late is none, and is `publisher_lost`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from monitor.line_state.frame import Frame
from monitor.line_state.ring import Closed, Scored, Tally
from monitor.settings import CameraSettings, Mode, OnUninspected, PublishVerdicts
from monitor.verdict import Event, Reason, Verdict, snapshot_path


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the publisher knows besides the frame itself. Times are CLOCK_MONOTONIC nanoseconds."""

    now_ns: int
    now_utc_ns: int
    publisher_since_ns: int
    """Since when this publisher has been watching without a gap."""
    scorer_fresh: bool
    stopping: bool = False
    """The line is being stopped in order: there is nothing left to wait for."""


def decide(frame: Frame, filled: bool, scored: Scored | None, at: Circumstances) -> Closed | None:
    """The frame's verdict, or None while there is still time to wait for one."""
    if frame.refused is not Reason.NONE:
        return _uninspected(frame.refused, at)
    if at.now_ns < frame.deadline_ns:
        if scored is not None:
            return _judged(scored, at)
        if at.now_ns < frame.decide_by_ns and not at.stopping:
            return None
        return _uninspected(_why_unjudged(filled, at), at)
    in_time = scored is not None and scored.scored_ns <= frame.deadline_ns
    if in_time and scored is not None and scored.verdict is Verdict.REJECT:
        return _judged(scored, at)
    if in_time or at.publisher_since_ns > frame.decide_by_ns:
        return _uninspected(Reason.PUBLISHER_LOST, at)
    return _uninspected(_why_unjudged(filled, at), at)


def _why_unjudged(filled: bool, at: Circumstances) -> Reason:
    if not filled:
        return Reason.CAPTURE_LOST
    return Reason.DEADLINE if at.scorer_fresh else Reason.SCORER_LOST


def _judged(scored: Scored, at: Circumstances) -> Closed:
    return Closed(
        verdict=scored.verdict,
        reason=scored.reason,
        judged=True,
        snapshot=scored.snapshot,
        closed_ns=at.now_ns,
        closed_utc_ns=at.now_utc_ns,
    )


def _uninspected(reason: Reason, at: Circumstances) -> Closed:
    return Closed(
        verdict=Verdict.UNINSPECTED,
        reason=reason,
        judged=False,
        snapshot=False,
        closed_ns=at.now_ns,
        closed_utc_ns=at.now_utc_ns,
    )


def is_for_gate(closed: Closed, mode: Mode, on_uninspected: OnUninspected) -> bool:
    """Whether the gate must remove the part. A live view (`latest`) never actuates."""
    if mode is Mode.LATEST:
        return False
    if closed.verdict is Verdict.UNINSPECTED:
        return on_uninspected is OnUninspected.REJECT
    return closed.verdict is Verdict.REJECT


def is_a_stop(closed: Closed, mode: Mode, on_uninspected: OnUninspected) -> bool:
    """Whether the line must stop for the part, which nobody judged, until somebody has looked."""
    return (
        mode is Mode.EVERY_PART
        and closed.verdict is Verdict.UNINSPECTED
        and on_uninspected is OnUninspected.STOP
    )


def is_published(mode: Mode, publish: PublishVerdicts) -> bool:
    """Whether this camera's verdicts, passes included, go to its verdict topic."""
    if publish is PublishVerdicts.EVERY_PART:
        return mode is Mode.EVERY_PART
    return publish is PublishVerdicts.ALL


def event(
    prefix: str,
    session: str,
    camera: CameraSettings,
    recipe: str,
    frame: Frame,
    closed: Closed,
    scored: Scored | None,
) -> Event:
    """All that is said outside about a closed frame. `recipe` is the name of the one that judged it, or would
    have."""
    judged = scored if closed.judged else None
    snapshot = None
    if closed.snapshot and judged is not None:
        snapshot = snapshot_path(frame.captured_utc_ns, camera.name, frame.number, judged.score)
    return Event(
        prefix=prefix,
        camera=camera.name,
        session=session,
        frame=frame.number,
        part=frame.number if camera.mode is Mode.EVERY_PART else None,
        verdict=closed.verdict,
        reason=closed.reason,
        score=judged.score if judged else None,
        threshold=judged.threshold if judged else None,
        recipe=recipe,
        recipe_sha=(judged.recipe_sha or None) if judged else None,
        captured_utc_ns=frame.captured_utc_ns,
        decided_utc_ns=closed.closed_utc_ns,
        expires_utc_ns=frame.captured_utc_ns + frame.expires_ns - frame.captured_ns,
        snapshot=snapshot,
    )


def count(tally: Tally, number: int, closed: Closed, missed: bool) -> Tally:
    """The tally with the next frame's closed verdict counted in; frames are counted in order, once each."""
    if number != tally.cursor + 1:
        raise ValueError(f"frame {number} can't be counted after frame {tally.cursor}")
    uninspected = list(tally.uninspected)
    if closed.verdict is Verdict.UNINSPECTED:
        uninspected[closed.reason] += 1
    return replace(
        tally,
        cursor=number,
        passed=tally.passed + (closed.verdict is Verdict.PASS),
        rejected=tally.rejected + (closed.verdict is Verdict.REJECT),
        missed_rejects=tally.missed_rejects + missed,
        no_part=tally.no_part + (closed.reason is Reason.NO_PART),
        uninspected=tuple(uninspected),
    )
