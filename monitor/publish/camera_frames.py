"""One camera's frames as the publisher handles them: found in the ring, closed there, counted there.

It knows nothing of MQTT or the journal. On a frame's way it stands between the score and the delivery of the
verdict. It must never close a frame twice, and every frame is closed in the ring before its verdict is sent:
the publisher may be killed between any two writes, and the next one must find the same verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from monitor.line_state import verdict_rules
from monitor.line_state.changeover import find_judge
from monitor.line_state.frame import Frame
from monitor.line_state.ring import MISSED, FinalVerdict, Ring, Stage
from monitor.line_state.verdict_rules import Consequences, PublisherTurn
from monitor.line_state.worker_process import Worker
from monitor.publish.episodes import Episodes
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Event, Reason, Verdict

_EPISODE_LOOKBACK = 1000
"""The most frames that a new publisher reads back to find the present episode of a live view."""


@dataclass(frozen=True, slots=True)
class ArmedPart:
    """A challenge part that a person lays under the camera now. A frame without a part does not show it."""

    part: int
    """Its number, from 1."""
    since_ns: int
    """The first frame with a part that was captured at this time or later shows it."""


class CameraFrames:
    """The frames of one camera. Other modules may read `ring` and `camera`, which are its settings."""

    def __init__(self, camera: CameraSettings, worker: Worker) -> None:
        self.camera = camera
        self.ring = Ring(worker.folder, camera.name, worker.session)
        self._settings, self._board = worker.settings, worker.board
        self._prefix, self._session = worker.settings.prefix, str(worker.session)
        self._episodes = Episodes()
        self._tally = self.ring.tally()
        self._open: dict[int, Frame] = {}
        self._last_found = self._tally.cursor
        self._armed: ArmedPart | None = None

    @property
    def has_open(self) -> bool:
        """Whether a frame has no verdict yet."""
        return bool(self._open)

    def next_due_ns(self) -> int | None:
        """The earliest `decide_by_ns` of the open frames; None while none is open."""
        return min((frame.decide_by_ns for frame in self._open.values()), default=None)

    def topic(self, kind: str) -> str:
        """The camera's MQTT topic of that kind: `reject`, `verdict` or `ack`."""
        return f"{self._prefix}/{self.camera.name}/{kind}"

    def take_as_challenge(self, armed: ArmedPart | None) -> None:
        """Sets which challenge part the next frame with a part shows; None for none."""
        self._armed = armed

    def find_new(self) -> Iterator[tuple[Frame, FinalVerdict]]:
        """Adds the frames captured since the last call. Yields those that an earlier publisher closed and
        whose delivery has not ended."""
        last = self.ring.last_frame()
        while self._last_found < last:
            self._last_found += 1
            frame = self.ring.frame(self._last_found)
            if frame is None:
                raise RuntimeError(f"ring of {self.camera.name!r} lost frame {self._last_found} of {last}")
            closed = self.ring.final_verdict(frame.number)
            if closed is not None and closed.challenge:
                # A publisher that was killed has taken this frame for the part.
                self._armed = None
            if closed is None:
                self._open[frame.number] = frame
            elif not self.ring.stage(frame.number).is_final:
                yield frame, closed

    def close(self, turn: PublisherTurn) -> Iterator[tuple[Frame, FinalVerdict]]:
        """Closes the frames that can be closed now. Each is closed in the ring before it is yielded."""
        is_waiting = False
        """Whether an earlier frame that may show the armed challenge part is still open."""
        for frame in list(self._open.values()):
            filled = self.ring.is_filled(frame.number)
            closed = verdict_rules.decide(frame, filled, self.ring.scorer_verdict(frame.number), turn)
            may_be_challenge = self._armed is not None and frame.captured_ns >= self._armed.since_ns
            if closed is None:
                is_waiting |= may_be_challenge
            else:
                if may_be_challenge and not is_waiting:
                    closed = self._take_challenge(closed)
                self.ring.write_closed(frame.number, closed)
                del self._open[frame.number]
                yield frame, closed

    def _take_challenge(self, closed: FinalVerdict) -> FinalVerdict:
        """The verdict of the first frame since a challenge part was armed. An empty place is not the part."""
        if self._armed is None or closed.reason is Reason.NO_PART:
            return closed
        part, self._armed = self._armed.part, None
        return replace(closed, challenge=part)

    def derive_consequences(self, closed: FinalVerdict) -> Consequences:
        """The consequences of the next closed frame's verdict. Call it once for every frame, in order: a live
        view's frame with the same verdict and reason as the one before is a repeat."""
        is_repeat = self.camera.mode is not Mode.EVERY_PART and not self._episodes.is_event(closed)
        return verdict_rules.derive_consequences(closed, self.camera, self._settings, is_repeat=is_repeat)

    def is_for_gate(self, closed: FinalVerdict) -> bool:
        """Whether the gate must remove the part. Unlike `derive_consequences`, it may be called for frames in
        any order."""
        return verdict_rules.derive_consequences(closed, self.camera, self._settings).is_for_gate

    def event(self, frame: Frame, closed: FinalVerdict) -> Event:
        """The event of a closed frame, for MQTT and the journal."""
        scored = self.ring.scorer_verdict(frame.number)
        judge = find_judge(self._board, self.camera, scored.recipe_sha if scored else "")
        return verdict_rules.make_event(
            self._prefix,
            self._session,
            self.camera,
            judge,
            frame,
            closed,
            scored,
            self._settings.challenge.find_id(closed.challenge),
        )

    def count_final(self) -> None:
        """Counts the frames whose delivery has ended, in order, up to the first whose delivery has not."""
        tally = self._tally
        while (number := tally.cursor + 1) <= self._last_found:
            closed, stage = self.ring.final_verdict(number), self.ring.stage(number)
            if number in self._open or closed is None or not stage.is_final:
                break
            is_missed = stage in MISSED and self.is_for_gate(closed)
            tally = verdict_rules.count(tally, number, closed, is_missed)
        if tally is not self._tally:
            self.ring.write_tally(tally)
            self._tally = tally

    def record_missed(self, number: int, sent_ns: int, answered_ns: int) -> None:
        """Records that the gate failed to act on a reject whose delivery had ended as sent or acknowledged.
        Call it once for each such reject. A frame that is no longer in the ring is ignored."""
        if self.ring.frame(number) is None:
            return
        self.ring.write_stage(number, Stage.UNACKNOWLEDGED, sent_ns, answered_ns)
        if number <= self._tally.cursor:
            self._tally = replace(self._tally, missed_rejects=self._tally.missed_rejects + 1)
            self.ring.write_tally(self._tally)

    def resume_episode(self) -> None:
        """Continues a live view's episode from an earlier publisher, so that a verdict which that publisher
        has sent is not sent again."""
        number, oldest = self._tally.cursor, max(0, self._tally.cursor - _EPISODE_LOOKBACK)
        while number > oldest:
            closed = self.ring.final_verdict(number)
            if closed is not None and closed.reason is not Reason.SUPERSEDED:
                self._episodes.is_event(closed)
                return
            number -= 1

    def last_judged(self, count: int, since_ns: int) -> list[Verdict]:
        """The verdicts of the last judged parts, oldest first: at most `count`, closed after `since_ns`."""
        found: list[Verdict] = []
        for frame in self.newest_first():
            if len(found) >= count:
                break
            closed = self.ring.final_verdict(frame.number)
            if closed is None or not closed.from_scorer or closed.reason is Reason.NO_PART:
                continue
            if closed.challenge:
                continue
            if closed.closed_ns > since_ns:
                found.append(closed.verdict)
        return found[::-1]

    def newest_first(self) -> Iterator[Frame]:
        """Every frame that is still in the ring, the newest first."""
        number = self.ring.last_frame()
        while number > 0 and (frame := self.ring.frame(number)) is not None:
            yield frame
            number -= 1
