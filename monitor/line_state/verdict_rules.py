"""The rules that give every frame its one verdict, and the consequences of that verdict: pure functions.

It knows nothing of clocks, MQTT, or where a ring lies: its caller passes in the time and the frame's record.
On a frame's way it stands after the score and before anything is sent.

The rules, in the order in which a frame meets them:

1. A frame that the capture worker could not offer for scoring is uninspected at once.
2. Until `deadline_ns` the scorer's verdict is taken as soon as it is in the ring.
3. `decide_by_ns` ends only the wait: a frame that has no score then is uninspected at once, so that its
   verdict is published by its deadline.
4. A frame that is still open at its deadline (the publisher was away or slow) keeps the scorer's verdict of a
   reject or of an uninspected frame, since the gate may still be able to act. A pass comes too late: the
   frame is uninspected.

A reason `..._lost` is given only where the worker of that name has died. A worker that lives and is slow
gives `deadline`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from monitor.line_state.changeover import RecipeIdentity
from monitor.line_state.frame import Frame
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import FinalVerdict, ScorerVerdict, Tally
from monitor.settings import CameraSettings, JournalVerdicts, Mode, OnUninspected, PublishVerdicts, Settings
from monitor.verdict import Event, Reason, Verdict, snapshot_path


@dataclass(frozen=True, slots=True)
class PublisherTurn:
    """One turn of the publisher's loop: what the rules need besides the frame. Times are CLOCK_MONOTONIC
    nanoseconds, except for `now_utc_ns`, which is UTC."""

    now_ns: int
    now_utc_ns: int
    publisher_since_ns: int
    """The start of this publisher: the one before it has died, or there was none."""
    is_scorer_lost: bool
    """The scoring worker has died, and the next one has not started to score."""
    is_stopping: bool = False
    """The line is being stopped in order: the publisher no longer waits for scores."""


class PixelState(Enum):
    """How far the capture worker has come with a frame's pixels."""

    BEING_WRITTEN = auto()
    FILLED = auto()
    ABANDONED = auto()
    """The capture worker died before it had written all of them."""


def find_pixel_state(
    frame: Frame, *, is_filled: bool, is_capture_lost: bool, capture_since_ns: int
) -> PixelState:
    """The state of the frame's pixels. `is_capture_lost`: the capture worker has died, and the next one does
    not run yet; `capture_since_ns` is the start of the newest one."""
    if is_filled:
        return PixelState.FILLED
    if is_capture_lost or frame.captured_ns < capture_since_ns:
        return PixelState.ABANDONED
    return PixelState.BEING_WRITTEN


@dataclass(frozen=True, slots=True)
class Consequences:
    """The consequences of one closed frame's verdict."""

    is_for_gate: bool
    """The gate must remove the part: the verdict goes to `P/{camera}/reject`."""
    is_published: bool
    """The verdict goes to `P/{camera}/verdict`."""
    is_journalled: bool
    """The verdict goes to the journal, which keeps passes only where `journal.verdicts` is `all`."""
    has_snapshot: bool
    """The snapshot writer keeps the frame, and the payload names the file."""
    latch: Latch
    """UNINSPECTED where the line must stop for the part, otherwise NONE."""

    @property
    def is_sent(self) -> bool:
        """Whether the verdict goes to the broker at all."""
        return self.is_for_gate or self.is_published


def derive_consequences(
    closed: FinalVerdict, camera: CameraSettings, settings: Settings, *, is_repeat: bool = False
) -> Consequences:
    """The consequences of a closed frame's verdict.

    `is_repeat`: a live view has already published the same verdict and reason. A repeat is not published, and
    is journalled only where the journal keeps all verdicts.
    """
    return Consequences(
        is_for_gate=is_for_gate(closed.verdict, camera),
        is_published=not is_repeat and _publishes(camera.mode, settings.mqtt.publish_verdicts),
        is_journalled=not is_repeat or settings.journal.verdicts is JournalVerdicts.ALL,
        has_snapshot=_has_snapshot(closed),
        latch=Latch.UNINSPECTED if must_stop(closed.verdict, camera) else Latch.NONE,
    )


def is_for_gate(verdict: Verdict, camera: CameraSettings) -> bool:
    """Whether the gate must remove a part with that verdict. A live view (`latest`) has no parts: it never
    actuates and never stops the line."""
    return camera.mode is Mode.EVERY_PART and (
        verdict is Verdict.REJECT
        or (verdict is Verdict.UNINSPECTED and camera.on_uninspected is OnUninspected.REJECT)
    )


def must_stop(verdict: Verdict, camera: CameraSettings) -> bool:
    """Whether the line must stop for a part with that verdict."""
    return (
        camera.mode is Mode.EVERY_PART
        and verdict is Verdict.UNINSPECTED
        and camera.on_uninspected is OnUninspected.STOP
    )


def _publishes(mode: Mode, publish: PublishVerdicts) -> bool:
    if publish is PublishVerdicts.EVERY_PART:
        return mode is Mode.EVERY_PART
    return publish is PublishVerdicts.ALL


def _has_snapshot(closed: FinalVerdict) -> bool:
    """Whether the frame gets its snapshot: not when it was closed without the scorer's verdict, even if the
    scorer chose it for a snapshot."""
    return closed.from_scorer and closed.snapshot


def decide(
    frame: Frame, pixels: PixelState, scored: ScorerVerdict | None, turn: PublisherTurn
) -> FinalVerdict | None:
    """The frame's verdict, or None while there is still time to wait for a score."""
    if frame.refused is not Reason.NONE:
        return _close_as_uninspected(frame.refused, turn)
    if turn.now_ns < frame.deadline_ns:
        if scored is not None:
            return _close_as_scored(scored, turn)
        if turn.now_ns < frame.decide_by_ns and not turn.is_stopping:
            return None
        return _close_as_uninspected(_find_reason(pixels, turn), turn)
    if scored is not None and scored.scored_ns <= frame.deadline_ns and scored.verdict is not Verdict.PASS:
        return _close_as_scored(scored, turn)
    if turn.publisher_since_ns > frame.decide_by_ns:
        return _close_as_uninspected(Reason.PUBLISHER_LOST, turn)
    if scored is not None:
        return _close_as_uninspected(Reason.DEADLINE, turn)
    return _close_as_uninspected(_find_reason(pixels, turn), turn)


def _find_reason(pixels: PixelState, turn: PublisherTurn) -> Reason:
    """Why the frame has no score."""
    if pixels is PixelState.ABANDONED:
        return Reason.CAPTURE_LOST
    is_offered = pixels is PixelState.FILLED
    return Reason.SCORER_LOST if is_offered and turn.is_scorer_lost else Reason.DEADLINE


def _close_as_scored(scored: ScorerVerdict, turn: PublisherTurn) -> FinalVerdict:
    return FinalVerdict(
        verdict=scored.verdict,
        reason=scored.reason,
        from_scorer=True,
        snapshot=scored.snapshot,
        closed_ns=turn.now_ns,
        closed_utc_ns=turn.now_utc_ns,
    )


def _close_as_uninspected(reason: Reason, turn: PublisherTurn) -> FinalVerdict:
    return FinalVerdict(
        verdict=Verdict.UNINSPECTED,
        reason=reason,
        from_scorer=False,
        snapshot=False,
        closed_ns=turn.now_ns,
        closed_utc_ns=turn.now_utc_ns,
    )


def make_event(
    prefix: str,
    session: str,
    camera: CameraSettings,
    judge: RecipeIdentity,
    frame: Frame,
    closed: FinalVerdict,
    scored: ScorerVerdict | None,
    challenge: str | None = None,
) -> Event:
    """The event that MQTT, journal and snapshots describe. `judge` is the recipe that judged the frame,
    or the recipe in force for a frame that none judged. `challenge` is the id of the challenge part that the
    frame shows."""
    judged = scored if closed.from_scorer else None
    snapshot = None
    if _has_snapshot(closed) and judged is not None:
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
        recipe=judge.recipe,
        recipe_sha=(judged.recipe_sha or None) if judged else None,
        captured_utc_ns=frame.captured_utc_ns,
        decided_utc_ns=closed.closed_utc_ns,
        expires_utc_ns=frame.captured_utc_ns + frame.expires_ns - frame.captured_ns,
        snapshot=snapshot,
        version=judge.version if judged and judged.recipe_sha == judge.sha else None,
        challenge=challenge,
    )


def count(tally: Tally, number: int, closed: FinalVerdict, missed: bool) -> Tally:
    """The tally with the next closed frame added. `missed`: the verdict was for the gate, and the gate did
    not get it or did not act on it. Raises ValueError unless frames come in order, each once."""
    if number != tally.cursor + 1:
        raise ValueError(f"frame {number} can't be counted after frame {tally.cursor}")
    return replace(tally.add(closed, missed_reject=missed), cursor=number)
