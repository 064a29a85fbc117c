"""One camera's frames as the publisher handles them: found in the ring, closed there, counted there.

It knows nothing of MQTT or the journal. On a frame's way it stands between the score and the delivery of the
verdict. It must never close a frame twice, and every frame is closed in the ring before its verdict is sent:
the publisher may be killed between any two writes, and the next one must find the same verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from monitor.line_state import verdict_rules
from monitor.line_state.board import Field
from monitor.line_state.changeover import find_judge
from monitor.line_state.frame import Frame
from monitor.line_state.ring import MISSED, FinalVerdict, Ring, Stage
from monitor.line_state.verdict_rules import Consequences, PublisherTurn
from monitor.line_state.worker_process import Worker, capture_name
from monitor.publish.episodes import Episodes
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Event, Reason, Verdict

_MOST_SPANS = 4
"""Of the newest challenge parts of a camera: those of earlier ones hold for no open frame any more."""
_EPISODE_LOOKBACK = 1000
"""The most frames that a new publisher reads back to find the present episode of a live view."""


@dataclass(frozen=True, slots=True)
class ChallengeSpan:
    """The time in which a camera's frames show a challenge part, except for frames without a part. Times are
    CLOCK_MONOTONIC nanoseconds."""

    part: int
    """Its number, from 1."""
    since_ns: int
    until_ns: int | None = None
    """None: the part has not come yet, or may still lie there."""

    def holds(self, captured_ns: int) -> bool:
        return self.since_ns <= captured_ns and (self.until_ns is None or captured_ns < self.until_ns)


class CameraFrames:
    """The frames of one camera. Other modules may read `ring` and `camera`, which are its settings."""

    def __init__(self, camera: CameraSettings, worker: Worker) -> None:
        self.camera = camera
        self.ring = Ring(worker.folder, camera.name, worker.session)
        self._settings, self._board = worker.settings, worker.board
        self._capture = capture_name(camera.name)
        self._prefix, self._session = worker.settings.prefix, str(worker.session)
        self._episodes = Episodes()
        self._tally = self.ring.tally()
        self._open: dict[int, Frame] = {}
        self._last_found = self._tally.cursor
        self._spans: tuple[ChallengeSpan, ...] = ()
        """The newest last. Those that have ended still hold for frames that are open."""

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

    def begin_challenge(self, part: int, since_ns: int) -> None:
        """Takes the frames with a part from that time on for that challenge part."""
        self.end_challenge(since_ns)
        self._spans = (*self._spans, ChallengeSpan(part, since_ns))[-_MOST_SPANS:]

    def end_challenge(self, until_ns: int) -> None:
        """Takes the frames from that time on for production again."""
        self._spans = tuple(
            one if one.until_ns is not None else replace(one, until_ns=until_ns) for one in self._spans
        )

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
            if closed is None:
                self._open[frame.number] = frame
            elif not self.ring.stage(frame.number).is_final:
                yield frame, closed

    def close(self, turn: PublisherTurn) -> Iterator[tuple[Frame, FinalVerdict]]:
        """Closes the frames that can be closed now. Each is closed in the ring before it is yielded."""
        is_waiting = False
        """Whether an earlier frame that may show the armed challenge part is still open."""
        is_capture_lost = self._board.is_lost(self._capture)
        capture_since_ns = self._board.read(self._capture, Field.SINCE_NS)
        for frame in list(self._open.values()):
            pixels = verdict_rules.find_pixel_state(
                frame,
                is_filled=self.ring.is_filled(frame.number),
                is_capture_lost=is_capture_lost,
                capture_since_ns=capture_since_ns,
            )
            scored = self.ring.scorer_verdict(frame.number)
            closed = verdict_rules.decide(frame, pixels, scored, turn)
            part = self._find_challenge(frame)
            if closed is None or (part and is_waiting and turn.now_ns < frame.decide_by_ns):
                # The first frame that shows a challenge part is its attempt, so these close in their order.
                is_waiting |= bool(part)
                continue
            is_empty = closed.reason is Reason.NO_PART or (
                scored is not None and scored.reason is Reason.NO_PART
            )
            if part and not is_empty:
                closed = replace(closed, challenge=part)
            self.ring.write_closed(frame.number, closed)
            del self._open[frame.number]
            yield frame, closed

    def _find_challenge(self, frame: Frame) -> int:
        """The challenge part that the frame shows if it shows a part; 0 for a frame of production."""
        return next((one.part for one in reversed(self._spans) if one.holds(frame.captured_ns)), 0)

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
