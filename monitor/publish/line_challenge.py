"""The challenge of a running line: takes what people ask for, follows the frames that show the parts.

It knows nothing of MQTT. `monitor.line_state.challenge_run` is the rule; here it is applied to the board, the
file, the rings and the record of changes. It must never wait for a disk. A publisher that is killed in the
middle must leave the challenge due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor import paths
from monitor.audit.entry import Change, Kind
from monitor.line_state import challenge_board, challenge_request, challenge_run
from monitor.line_state.board import Field
from monitor.line_state.challenge_file import open_challenge_file, read_challenge
from monitor.line_state.challenge_request import Act, ChallengeRequest
from monitor.line_state.challenge_run import (
    Attempt,
    CameraMark,
    ChallengeError,
    ChallengeState,
    Delivered,
    Hold,
    Moment,
    Phase,
)
from monitor.line_state.changeover import RecipeIdentity, read_recipe_status
from monitor.line_state.counts import count_verdicts
from monitor.line_state.frame import Frame
from monitor.line_state.worker_process import PUBLISH, Worker
from monitor.names import join_version
from monitor.publish.camera_frames import CameraFrames
from monitor.publish.change_record import ChangeRecord
from monitor.publish.delivery import Deliveries
from monitor.settings import ChallengePartSettings, Mode
from monitor.verdict import Event, Reason, Verdict

_LOOK_NS = 50_000_000
"""How often versions in force and clocks are looked at."""
_SLOW_DISK_NS = 300_000_000
"""A state that is not on disk after this time is reported."""
_SERVICE = "service"


@dataclass(frozen=True, slots=True)
class _Shown:
    """The part whose verdict is on its way."""

    frames: CameraFrames
    event: Event
    wrong: str | None
    """Why its verdict is wrong."""
    must_be_actuated: bool
    late_at_ns: int
    """When no answer of the gateway is waited for any more."""


class LineChallenge:
    """The challenge of one line; without parts in the settings it does nothing. `clock` is CLOCK_MONOTONIC,
    `utc_ns` UTC, both in nanoseconds."""

    def __init__(
        self,
        worker: Worker,
        cameras: Sequence[CameraFrames],
        changes: ChangeRecord,
        clock: Callable[[], int],
        utc_ns: Callable[[], int],
    ) -> None:
        self._board, self._log, self._changes = worker.board, worker.log, changes
        self._settings, self._rules = worker.settings, worker.settings.challenge
        self._clock, self._utc_ns = clock, utc_ns
        self._cameras = {one.camera.name: one for one in cameras}
        self._ack_ns = worker.settings.mqtt.ack_timeout_ms * 1_000_000
        self._shown: _Shown | None = None
        self._look_at_ns = 0
        self.summary: dict[str, object] | None = None
        """For `P/status`; None for a line without challenge parts."""
        self._state = ChallengeState()
        self._changed_ns = 0
        """When the state changed last."""
        if self._rules.part:
            self._file = open_challenge_file(paths.challenge(worker.settings), worker.log)
            self._adopt(self._resume(str(worker.session)), by=_SERVICE)
            self._board.write(PUBLISH, Field.CHALLENGE_PARTS, challenge_board.checksum_parts(self._rules))
            self._resume_span()
        else:
            self._board.write(PUBLISH, Field.CHALLENGE_HOLD, Hold.NONE)

    def _resume(self, session: str) -> ChallengeState:
        kept, is_unreadable = None, False
        try:
            kept = read_challenge(paths.challenge(self._settings))
        except ChallengeError as error:
            self._log.error("%s", error)
            is_unreadable = True
        brief, moment = challenge_board.read_state(self._board), self._moment()
        state = challenge_run.resume(
            kept, brief, session, self._rules, self._marks(), moment, is_unreadable=is_unreadable
        )
        # A state of other settings may name a part that is gone.
        if state.place >= len(self._rules.part):
            state = challenge_run.make_due(state, challenge_run.Cause.PARTS, moment)
        self._state = kept or self._state
        return state

    def _resume_span(self) -> None:
        """Takes the frames of a part that was armed or shown under a killed publisher for that part."""
        state = self._state
        if state.phase is Phase.ARMED:
            self._begin_span(state.place + 1, state.armed_ns)
        elif 0 < state.lying <= len(self._rules.part):
            self._begin_span(state.lying, state.lying_since_ns)

    @property
    def _is_disk_failing(self) -> bool:
        return self._clock() - self._changed_ns > _SLOW_DISK_NS and not self._file.is_written

    def _moment(self) -> Moment:
        return Moment(self._clock(), self._utc_ns(), self._settings.review.time_zone)

    def take_request(self) -> None:
        """Does what a person has asked for on the page, if it can be done now."""
        request = challenge_request.take(self._board, self._clock())
        if request is None or not self._rules.part:
            return
        try:
            state = self._answer(request)
        except ChallengeError as error:
            self._log.warning("challenge: %s of %s is refused: %s", request.act, request.by, error)
            return
        if state is not self._state:
            self._adopt(state, by=request.by)

    def _answer(self, request: ChallengeRequest) -> ChallengeState:
        """Raises ChallengeError."""
        moment = self._moment()
        if request.act is Act.BEGIN:
            if self._state.phase is Phase.PASSED and self._is_disk_failing:
                # A failure that then follows would be lost with the power.
                raise ChallengeError("the data folder can't be written: mend the disk, then begin")
            return challenge_run.begin(self._state, self._rules, request.by, moment)
        if request.act is Act.WITHDRAW:
            return challenge_run.withdraw(self._state)
        if request.act is Act.DISARM:
            return challenge_run.disarm(self._state)
        if request.act is Act.CLEAR:
            return challenge_run.clear(self._state, self._rules, self._marks(), moment)
        return challenge_run.arm(self._state, self._rules, request.part, request.by, moment)

    @property
    def _part(self) -> ChallengePartSettings:
        """The part that is shown, or is shown next."""
        return self._rules.part[self._state.place]

    def see_closed(self, frames: CameraFrames, frame: Frame, event: Event, is_for_gate: bool) -> None:
        """Takes a frame that shows a challenge part, after it was closed and before its delivery begins."""
        if self._state.phase is not Phase.ARMED or event.challenge != self._part.id:
            return
        if frame.captured_ns < self._state.armed_ns:
            # It shows the part's attempt before.
            return
        wrong = challenge_run.find_wrong(self._part.expected, event.verdict, event.reason)
        must_be_actuated = is_for_gate and self._ack_ns > 0
        self._shown = _Shown(frames, event, wrong, must_be_actuated, frame.expires_ns + self._ack_ns)
        self._adopt(challenge_run.note_shown(self._state, frame.captured_ns), by=self._state.by)

    def see_empty(self, frames: CameraFrames, frame: Frame) -> None:
        """Takes a frame without a part: the part that lay under that camera is away."""
        state = self._state
        if not 0 < state.lying <= len(self._rules.part) or frame.captured_ns <= state.lying_since_ns:
            return
        if self._rules.part[state.lying - 1].camera == frames.camera.name:
            self._end_span(frame.captured_ns)
            self._adopt(
                challenge_run.clear(state, self._rules, self._marks(), self._moment()), by=self._state.by
            )

    def interrupt(self) -> None:
        """Ends an attempt as not shown: the service stops, or the frame turned out to show no part."""
        if (state := challenge_run.interrupt(self._state)) is not self._state:
            self._shown = None
            self._adopt(state, by=_SERVICE)

    def step(self, deliveries: Deliveries) -> None:
        """Ends an attempt whose outcome is known, and looks whether a challenge is due."""
        now = self._clock()
        if not self._rules.part:
            return
        if self._shown is not None and self._state.phase is Phase.SHOWN:
            self._follow_shown(self._shown, deliveries, now)
        if now >= self._look_at_ns:
            self._look_at_ns = now + _LOOK_NS
            in_force = {name: found.sha for name, found in self._find_in_force().items()}
            state = challenge_run.observe(self._state, self._rules, in_force, self._moment())
            if state is not self._state:
                self._adopt(state, by=_SERVICE)
            self._summarise()

    def _follow_shown(self, shown: _Shown, deliveries: Deliveries, now: int) -> None:
        wrong = shown.wrong
        if shown.event.verdict is Verdict.UNINSPECTED and now < shown.late_at_ns:
            scored = shown.frames.ring.scorer_verdict(shown.event.frame)
            if scored is None:
                return
            if scored.reason is Reason.NO_PART:
                self._log.warning("challenge part %s was not shown: the place was empty", self._part.id)
                self.interrupt()
                return
        if wrong is None:
            delivered = Delivered(
                shown.frames.ring.stage(shown.event.frame),
                deliveries.answer_to(shown.event.event_id),
                shown.must_be_actuated,
                now >= shown.late_at_ns,
                deliveries.is_unheard(shown.event.event_id),
            )
            is_known, wrong = challenge_run.find_undelivered(delivered)
            if not is_known:
                return
        self._shown = None
        attempt = challenge_run.make_attempt(self._part, shown.event, self._state.by, wrong)
        state = challenge_run.finish(self._state, self._rules, attempt, self._marks(), self._moment())
        self._adopt(state, by=self._state.by)

    def _find_in_force(self) -> dict[str, RecipeIdentity]:
        """The versions in force at the cameras that have a part."""
        found = {name: read_recipe_status(self._board, name) for name in self._rules.cameras}
        return {name: one.in_force for name, one in found.items() if one is not None and one.in_force}

    def _marks(self) -> list[CameraMark]:
        marks = []
        for name, frames in self._cameras.items():
            if frames.camera.mode is Mode.EVERY_PART:
                counts, session = count_verdicts(frames.ring), str(frames.ring.session)
                uninspected = sum(counts.uninspected)
                marks.append(
                    CameraMark(name, session, counts.frames, counts.passed, counts.rejected, uninspected)
                )
        return marks

    def _adopt(self, state: ChallengeState, by: str) -> None:
        """Makes this the state: on the board at once, on disk soon, in the log and the record of changes."""
        before, self._state = self._state, state
        self._changed_ns = self._clock()
        challenge_board.write_state(self._board, state)
        self._file.put(state)
        self._follow_span(before, state)
        self._record(before, state, by)
        self._summarise()

    def _follow_span(self, before: ChallengeState, state: ChallengeState) -> None:
        """Begins or ends the time in which a camera's frames show a challenge part. The scoring worker reads
        it from the board."""
        if state.phase is Phase.ARMED and before.armed_ns != state.armed_ns:
            self._end_span(state.armed_ns)
            self._begin_span(state.place + 1, state.armed_ns)
        elif state.phase is not Phase.ARMED and not state.lying:
            self._end_span(self._clock())

    def _begin_span(self, number: int, since_ns: int) -> None:
        camera = self._rules.part[number - 1].camera
        names = [one.name for one in self._settings.camera]
        self._board.write(PUBLISH, Field.CHALLENGE_SINCE_NS, since_ns)
        self._board.write(PUBLISH, Field.CHALLENGE_CAMERA, names.index(camera) + 1)
        self._cameras[camera].begin_challenge(number, since_ns)

    def _end_span(self, until_ns: int) -> None:
        self._board.write(PUBLISH, Field.CHALLENGE_CAMERA, 0)
        for frames in self._cameras.values():
            frames.end_challenge(until_ns)

    def _summarise(self) -> None:
        state = self._state
        problem = challenge_run.explain_expired(self._rules, self._moment().day)
        if self._is_disk_failing:
            problem = problem or "disk: the challenge can't be written; mend the disk of the data folder"
        is_open = state.phase.hold is Hold.DUE
        self.summary = {
            "phase": state.phase.value,
            "cause": state.cause.value if state.phase is not Phase.PASSED else None,
            "part": self._part.id if is_open else None,
            "done": state.place if is_open else len(self._rules.part) if state.phase is Phase.PASSED else 0,
            "parts": len(self._rules.part),
            "success_utc": state.success.utc if state.success else None,
            "due_utc": challenge_run.find_due_utc(state, self._rules),
            "problem": problem,
        }

    def _record(self, before: ChallengeState, state: ChallengeState, by: str) -> None:
        """Records what is new: due, a part that was not shown, a part shown once more, success, failure."""
        if state.due_utc != before.due_utc:
            who = by if state.cause is challenge_run.Cause.PERSON else _SERVICE
            self._put(who, before.phase.value, Phase.DUE.value, state.cause.text)
            self._log.warning("the line is not ready until its challenge succeeds: %s", state.cause.text)
        elif before.was_passed and state.phase is Phase.PASSED:
            self._put(by, before.phase.value, state.phase.value, "withdrawn: none was due, no part was shown")
            self._log.warning("the challenge is withdrawn by %s: none was due", by)
        elif (before.phase, state.phase) == (Phase.ARMED, Phase.DUE):
            self._put(by, before.phase.value, state.phase.value, f"{self._part.id}: not shown")
            self._log.info("challenge part %s was not shown", self._part.id)
        elif state.phase is Phase.PASSED and state.success != before.success:
            last = state.attempts[-1]
            self._put(last.by, Phase.DUE.value, state.phase.value, self._describe(state.attempts))
            self._log.info("the challenge has succeeded, by %s", last.by)
        if len(state.attempts) <= len(before.attempts):
            return
        last = state.attempts[-1]
        if state.phase is Phase.FAILED:
            since = f"in doubt since {state.success.utc if state.success else 'ever'}"
            meaning = f"{self._describe(state.attempts)}; {since}"
            self._put(last.by, Phase.DUE.value, state.phase.value, meaning)
            self._log.error("the challenge has failed: part %s: %s", last.part, last.wrong)
        elif last.wrong is not None:
            self._put(last.by, None, "repeat", f"{last.part}: {last.wrong}")
            self._log.warning("challenge part %s is shown once more: %s", last.part, last.wrong)

    def _describe(self, attempts: Sequence[Attempt]) -> str:
        """The versions in force and the attempts, for the record of changes."""
        versions = [
            f"{name} {join_version(found.recipe, found.version)}"
            for name, found in self._find_in_force().items()
        ]
        shown = [f"{one.part} {one.wrong or f'{one.verdict}, right'}" for one in attempts]
        return "; ".join([*versions, *shown])

    def _put(self, who: str, before: str | None, after: str, meaning: str) -> None:
        utc, via = self._moment().utc, _SERVICE if who == _SERVICE else "page"
        self._changes.put(Change(Kind.CHALLENGE, who, "challenge", before, after, meaning, utc, via=via))

    def close(self, timeout_s: float) -> bool:
        """Waits for the last write to disk. Returns whether the state is on disk."""
        return not self._rules.part or self._file.close(timeout_s)
