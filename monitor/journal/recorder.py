"""Records verdicts, recipes and latches in the journal: from the publisher, and again from the rings.

It knows nothing of how the journal is written, and never waits for it. On a frame's way it comes after the
decision and after the sending. The rings get the outcome of every frame before the journal does, and outlive
any process. So the rows that a killed publisher had not written yet are read from the rings.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from monitor.journal import settings_changes
from monitor.journal.tallies import SLOT_NS
from monitor.journal.writer import JournalWriter
from monitor.line_state import verdict_rules
from monitor.line_state.counts import Counts, count_verdicts
from monitor.line_state.frame import Frame
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import RECORDS, FinalVerdict, Ring, Stage
from monitor.settings import CameraSettings, Settings
from monitor.verdict import Event, Reason, Verdict

DECIDED, PUBLISHED, NOT_PUBLISHED, UNKNOWN = "decided", "published", "not published", "unknown"
UNHEARD = "unheard"
_OUTCOMES = {
    Stage.SENT: PUBLISHED,
    Stage.ACKNOWLEDGED: "acknowledged",
    Stage.EXPIRED: "expired",
    Stage.UNACKNOWLEDGED: "unacknowledged",
}
OUTCOMES = (DECIDED, UNHEARD, NOT_PUBLISHED, UNKNOWN, *_OUTCOMES.values())
"""All words of the journal for the outcome of a verdict."""
_FRAMES_PER_STEP = 20
_TALLY_EVERY_NS = 5 * 1_000_000_000

EventOf = Callable[[CameraSettings, Ring, Frame, FinalVerdict], Event]


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """A frame's verdict and its outcome in the journal's word. `latency_ms` is from capture to sending."""

    event: Event
    word: str
    latency_ms: float | None


def choose_outcome(stage: Stage, to_send: bool, unheard: bool = False) -> str:
    """The journal's word for a frame whose delivery has ended.

    `to_send`: its verdict was to be sent. `unheard`: the broker had no subscriber for the gate's message.
    """
    if stage is Stage.SENT and unheard:
        return UNHEARD
    return _OUTCOMES[stage] if to_send else NOT_PUBLISHED


def latency_ms(captured_ns: int, sent_ns: int | None) -> float | None:
    return (sent_ns - captured_ns) / 1e6 if sent_ns else None


def read_outcomes(
    settings: Settings, camera: CameraSettings, ring: Ring, event_of: EventOf, *, for_good: bool
) -> Iterator[FrameOutcome]:
    """The outcomes of a ring's frames whose delivery has ended, the newest first.

    `for_good`: no publisher will use this ring again, so all its frames are read. The outcome of a frame
    whose delivery had not ended is then `unknown`, and a frame without a verdict is uninspected.
    """
    last = ring.last_frame()
    for number in range(last, max(0, last - RECORDS), -1):
        frame, closed, stage = ring.frame(number), ring.final_verdict(number), ring.stage(number)
        if frame is None or not (for_good or (closed is not None and stage.is_final)):
            continue
        if closed is None:
            lost = Reason.PUBLISHER_LOST
            closed = FinalVerdict(
                Verdict.UNINSPECTED, lost, False, False, frame.deadline_ns, frame.captured_utc_ns
            )
        to_send = verdict_rules.derive_consequences(closed, camera, settings).is_sent
        word = choose_outcome(stage, to_send) if stage.is_final else UNKNOWN
        sent_ns = ring.sent_ns(number) if to_send else None
        yield FrameOutcome(
            event_of(camera, ring, frame, closed), word, latency_ms(frame.captured_ns, sent_ns)
        )


class Recorder:
    """The publisher's use of the journal. `cameras` are the settings and the ring of each camera."""

    def __init__(
        self,
        journal: JournalWriter,
        settings: Settings,
        cameras: Sequence[tuple[CameraSettings, Ring]],
        event_of: EventOf,
    ) -> None:
        self._journal = journal
        self._who = f"service, as {_user()}"
        self._recipes: dict[str, tuple[str, float]] = {}
        self._rings = [(camera.name, ring) for camera, ring in cameras]
        self._tallied: dict[str, Counts] = {}
        self._slot_ns = self._tally_due_ns = 0
        self._earlier_outcomes = (
            found
            for camera, ring in cameras
            if ring.last_frame()
            for found in read_outcomes(settings, camera, ring, event_of, for_good=False)
        )
        self.record_settings(settings)

    def record_settings(self, settings: Settings) -> None:
        """Records the settings that differ from those recorded last."""
        self._journal.record_values("settings", settings_changes.flatten_settings(settings), self._who)

    def step(self) -> None:
        """Records again a few of the frames that were finished before this publisher started."""
        for _, found in zip(range(_FRAMES_PER_STEP), self._earlier_outcomes, strict=False):
            self._journal.put(found.event, found.word, latency_ms=found.latency_ms, again=True)

    def record_tallies(self, utc_ns: int, *, now: bool = False) -> None:
        """Records what each camera has judged so far, every five seconds, at the end of each slot, and with
        `now` at once."""
        slot_ns = utc_ns // SLOT_NS * SLOT_NS
        if slot_ns == self._slot_ns and utc_ns < self._tally_due_ns and not now:
            return
        # What was judged up to now belongs to the slot that has just ended.
        for camera, ring in self._rings:
            counts = count_verdicts(ring)
            if self._tallied.get(camera) != counts and counts.frames:
                self._tallied[camera] = counts
                self._journal.record_tally(str(ring.session), camera, self._slot_ns or slot_ns, counts)
        self._slot_ns, self._tally_due_ns = slot_ns, utc_ns + _TALLY_EVERY_NS

    def record_verdict(self, event: Event) -> None:
        """Records a verdict, and its recipe and threshold when they are used for the first time."""
        self._journal.put(event, DECIDED)
        if event.recipe_sha is None or event.threshold is None:
            return
        judged_by = (event.recipe_sha, event.threshold)
        if self._recipes.get(event.recipe) != judged_by:
            self._recipes[event.recipe] = judged_by
            path = f"recipe.{event.recipe}"
            values = {f"{path}.sha256": event.recipe_sha, f"{path}.threshold": repr(event.threshold)}
            self._journal.record_values(path, values, self._who)

    def record_latch(self, latch: Latch) -> None:
        self._journal.record_change("latch", None, latch.word, self._who)

    def reset(self, latch: Latch, who: str) -> None:
        """Records the reset of a latch. A reset with nothing latched is not recorded."""
        if latch is not Latch.NONE:
            self._journal.record_change("latch", latch.word, None, who)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
