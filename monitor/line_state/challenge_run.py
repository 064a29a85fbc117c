"""The rule of the challenge: known good and bad parts that a person shows to the line one after the other.

It knows nothing of frames, MQTT and files: pure functions from one state to the next, with the times as
arguments. The line is not ready while a challenge is due or has failed. A challenge succeeds once every part
has got its verdict, in the order of the settings, and the last one is away from its camera. A wrong part is
shown once more; if it is wrong again, the challenge has failed, and a person begins a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from enum import IntEnum, StrEnum
from zoneinfo import ZoneInfo

import msgspec

from monitor.errors import LineMonitorError
from monitor.line_state.ring import MISSED, Stage
from monitor.settings import ChallengePartSettings, ChallengeSettings, ExpectedVerdict
from monitor.verdict import SCHEMA, Event, Reason, Verdict, rfc3339

_HOUR_NS = 3_600_000_000_000
_CLOCK_STEP_NS = 60_000_000_000
"""A clock that is set back by more is not trusted with the time since the last success."""
_LONGEST_ARMED_NS = 120_000_000_000
"""A part that was not shown for so long is not armed any more: nobody may stand at the line."""
_LONGEST_ANSWER = 40
"""The most characters of a gateway's answer that are repeated."""
ACTUATED = "actuated"


class ChallengeError(LineMonitorError):
    """The challenge can't go on like this. The message is one line with the fix."""


class Hold(IntEnum):
    """Whether the challenge keeps the line from being ready. The numbers are on the board."""

    NONE = 0
    DUE = 1
    FAILED = 2


class Phase(StrEnum):
    """Where the challenge stands. The words are on disk."""

    PASSED = "passed"
    DUE = "due"
    """A person is to show the next part."""
    ARMED = "armed"
    """The next frame with a part of the part's camera shows it."""
    SHOWN = "shown"
    """The part got its verdict; its delivery has not ended, or the gate has not removed the part yet."""
    LEAVING = "leaving"
    """Every part got its verdict; the last one may still lie under its camera."""
    FAILED = "failed"

    @property
    def hold(self) -> Hold:
        return {Phase.PASSED: Hold.NONE, Phase.FAILED: Hold.FAILED}.get(self, Hold.DUE)


class Cause(StrEnum):
    """Why the challenge is due. The words are on disk."""

    START = "start"
    CHANGEOVER = "changeover"
    CLOCK = "clock"
    PARTS = "parts"
    """The parts in the settings are not those of the last success."""
    PERSON = "person"
    LOST = "lost"
    """The state on disk is missing, or older than the one that the line had."""

    @property
    def text(self) -> str:
        return {
            Cause.START: "the service was started",
            Cause.CHANGEOVER: "another recipe or version is in force",
            Cause.CLOCK: "the time since the last challenge is over",
            Cause.PARTS: "the challenge parts in the settings have changed",
            Cause.PERSON: "a person has begun it",
            Cause.LOST: "the state of the last challenge was lost with a program or the disk",
        }[self]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One part as it was shown once. The field names are on disk."""

    part: str
    camera: str
    expected: str
    verdict: str
    reason: str | None
    frame: int
    captured_utc: str
    snapshot: str | None
    by: str
    wrong: str | None = None
    """Why the attempt is wrong, in words; None for a right one."""


class CameraMark(msgspec.Struct, frozen=True):
    """Where a camera stood at a success or failure. The counts are those of production in the session."""

    camera: str
    session: str
    frame: int
    """The number of its newest frame."""
    passed: int
    rejected: int
    uninspected: int


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """The last success."""

    utc: str
    utc_ns: int
    by: str
    parts: tuple[str, ...]
    """What the parts were, by `describe_part`."""
    marks: tuple[CameraMark, ...]
    monotonic_ns: int = 0
    """CLOCK_MONOTONIC; 0 for a success of an earlier session."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The last failure. It stays known after a later success, since its parts may still be looked for."""

    utc: str
    marks: tuple[CameraMark, ...]
    part: str
    wrong: str
    """Why the part's last attempt was wrong."""
    verdict: str = ""
    """What the last attempt got. Files of earlier versions lack it, and the reason."""
    reason: str | None = None
    since: Success | None
    """The last success before it."""


class ChallengeState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state. The field names are in `challenge.json`."""

    schema: int = SCHEMA
    sequence: int = 0
    """Counts up with each change, so that the state on disk can be compared with the board."""
    session: str = ""
    phase: Phase = Phase.DUE
    cause: Cause = Cause.START
    due_utc: str = ""
    place: int = 0
    """Of the part that is shown next, in the settings."""
    by: str = ""
    """Who shows it."""
    armed_ns: int = 0
    attempts: tuple[Attempt, ...] = ()
    """Of the present challenge, oldest first. A wrong one stays until a success or a failure, also where the
    challenge begins anew."""
    lying: int = 0
    """The number, from 1, of the part that was shown last and may still lie under its camera; 0 for none."""
    lying_since_ns: int = 0
    """When its first frame was captured."""
    was_passed: bool = False
    """A person began the challenge though none was due, and no part was shown since."""
    judged_by: dict[str, str] = {}
    """By camera: the sha256 of the version in force."""
    success: Success | None = None
    failure: Failure | None = None

    def is_same(self, other: ChallengeState) -> bool:
        """Whether the other one is the same state, with its history or without."""
        return (self.sequence, self.session) == (other.sequence, other.session)


class Moment(msgspec.Struct, frozen=True):
    """One moment by both clocks, in nanoseconds."""

    monotonic_ns: int
    utc_ns: int
    time_zone: str | None = None
    """The plant's; None for the zone of this machine."""

    @property
    def utc(self) -> str:
        return rfc3339(self.utc_ns)

    @property
    def day(self) -> date:
        """The day on the plant's clock, by which people write down until when a part is usable."""
        zone = ZoneInfo(self.time_zone) if self.time_zone is not None else None
        return datetime.fromtimestamp(self.utc_ns // 1_000_000_000, UTC).astimezone(zone).date()


def describe_part(part: ChallengePartSettings) -> str:
    """What makes the part another one: another text asks for a new challenge."""
    return f"{part.id} {part.camera} {part.expected.value} {part.verified.isoformat()}"


def explain_expired(challenge: ChallengeSettings, day: date) -> str | None:
    """Why the challenge can't succeed on that day, with the fix; None where it can."""
    names = [part.id for part in challenge.part if part.expires < day]
    if not names:
        return None
    which = f"challenge part {names[0]}" if len(names) == 1 else f"challenge parts {', '.join(names)}"
    verb = "has" if len(names) == 1 else "have"
    return f"{which} {verb} expired: verify again, set verified and expires in the settings, restart the line"


def resume(
    kept: ChallengeState | None,
    brief: ChallengeState | None,
    session: str,
    challenge: ChallengeSettings,
    marks: Sequence[CameraMark],
    moment: Moment,
    *,
    is_unreadable: bool = False,
) -> ChallengeState:
    """The state with which a publisher begins. `kept` is the state on disk; None where there is none, or none
    that can be read (`is_unreadable`). `brief` is the state on the board (`shorten`), of this session or
    carried over from the one before; None at the start of a service that ended in order.

    A state on disk that is not the board's was lost on the way. A failure then stays a failure; in every
    other phase the challenge is due again.
    """
    if brief is None:
        if kept is None:
            cause = Cause.LOST if is_unreadable else Cause.START
            return make_due(ChallengeState(session=session), cause, moment)
        return _start(kept, session, challenge, moment)
    if kept is None or not kept.is_same(brief):
        state = merge(kept, brief, marks)
        if state.phase is not Phase.FAILED:
            state = make_due(state, Cause.LOST, moment)
        return _next(state, session=session, lying=0, armed_ns=0)
    if kept.session != session:
        return _start(kept, session, challenge, moment)
    # The outcome of a part that was shown is lost: it is shown again, which is no repeat.
    return _next(kept, phase=Phase.DUE) if kept.phase is Phase.SHOWN else kept


def _start(
    kept: ChallengeState, session: str, challenge: ChallengeSettings, moment: Moment
) -> ChallengeState:
    """The state at the start of the service. CLOCK_MONOTONIC may have begun anew."""
    success = msgspec.structs.replace(kept.success, monotonic_ns=0) if kept.success is not None else None
    fresh = _next(kept, session=session, armed_ns=0, lying=0, success=success)
    if kept.phase is Phase.FAILED or (kept.phase is Phase.PASSED and not challenge.at_start):
        return fresh
    return make_due(fresh, Cause.START if challenge.at_start else kept.cause, moment)


def shorten(state: ChallengeState, most_attempts: int) -> ChallengeState:
    """The state as the board holds it: without what was in force and the counts, with the newest wrong
    attempts alone."""
    success = state.success and msgspec.structs.replace(state.success, parts=(), marks=())
    failure = state.failure and msgspec.structs.replace(state.failure, marks=(), since=None)
    wrong = [one for one in state.attempts if one.wrong is not None]
    return msgspec.structs.replace(
        state,
        attempts=tuple(wrong[max(0, len(wrong) - most_attempts) :]),
        judged_by={},
        success=success,
        failure=failure,
    )


def merge(
    kept: ChallengeState | None, brief: ChallengeState, marks: Sequence[CameraMark] = ()
) -> ChallengeState:
    """The board's state with the history of the older one on disk. `marks` stand for those of a failure that
    never reached the disk: they are later, so that no part in doubt is missing."""
    old = kept or ChallengeState()
    attempts, success, failure = brief.attempts, brief.success, brief.failure
    if old.due_utc == brief.due_utc:
        attempts = tuple(dict.fromkeys((*old.attempts, *attempts)))
    if success is None or (old.success is not None and old.success.utc == success.utc):
        success = old.success
    if failure is None or (old.failure is not None and old.failure.utc == failure.utc):
        failure = old.failure
    else:
        failure = msgspec.structs.replace(failure, marks=tuple(marks), since=old.success)
    return msgspec.structs.replace(
        brief,
        sequence=max(old.sequence, brief.sequence),
        attempts=attempts,
        judged_by=old.judged_by,
        success=success,
        failure=failure,
    )


def _next(state: ChallengeState, **changes: object) -> ChallengeState:
    return msgspec.structs.replace(state, sequence=state.sequence + 1, **changes)


def make_due(state: ChallengeState, cause: Cause, moment: Moment, by: str = "") -> ChallengeState:
    """A new challenge from its first part on. The wrong attempts of one that has not ended still count."""
    is_open = state.phase.hold is Hold.DUE
    return _next(
        state,
        phase=Phase.DUE,
        cause=cause,
        due_utc=moment.utc,
        place=0,
        by=by,
        armed_ns=0,
        attempts=tuple(one for one in state.attempts if is_open and one.wrong is not None),
        was_passed=False,
    )


def observe(
    state: ChallengeState, challenge: ChallengeSettings, judged_by: Mapping[str, str], moment: Moment
) -> ChallengeState:
    """What follows from the versions in force, by camera, and from the clocks. A failed challenge stays
    failed until a person begins a new one."""
    known = {name: sha for name, sha in state.judged_by.items() if name in challenge.cameras}
    seen = {name: sha for name, sha in judged_by.items() if name in challenge.cameras and sha}
    has_changed = any(known.get(name, sha) != sha for name, sha in seen.items())
    if {**known, **seen} != state.judged_by:
        state = _next(state, judged_by={**known, **seen})
    if state.phase is Phase.FAILED:
        return state
    if has_changed and challenge.after_changeover:
        return make_due(state, Cause.CHANGEOVER, moment)
    if state.phase is Phase.ARMED and moment.monotonic_ns - state.armed_ns > _LONGEST_ARMED_NS:
        return disarm(state)
    if state.phase is not Phase.PASSED:
        return state
    if state.success is None or state.success.parts != tuple(map(describe_part, challenge.part)):
        return make_due(state, Cause.PARTS, moment)
    return make_due(state, Cause.CLOCK, moment) if _is_over(state.success, challenge, moment) else state


def _is_over(success: Success, challenge: ChallengeSettings, moment: Moment) -> bool:
    """Whether the time since the success is over, by one of the clocks. A clock that was set back may hide
    it."""
    if challenge.every_h == 0:
        return False
    most_ns = challenge.every_h * _HOUR_NS
    since_ns = moment.utc_ns - success.utc_ns
    by_monotonic = success.monotonic_ns and moment.monotonic_ns - success.monotonic_ns >= most_ns
    is_set_back = not success.monotonic_ns and since_ns < -_CLOCK_STEP_NS
    return bool(by_monotonic) or since_ns >= most_ns or is_set_back


def find_due_utc(state: ChallengeState, challenge: ChallengeSettings) -> str | None:
    """When the challenge is due again by the clock; None where it is due or never will be."""
    if state.phase is not Phase.PASSED or state.success is None or challenge.every_h == 0:
        return None
    return rfc3339(state.success.utc_ns + round(challenge.every_h * _HOUR_NS))


def begin(state: ChallengeState, challenge: ChallengeSettings, by: str, moment: Moment) -> ChallengeState:
    """A person begins a new challenge: after a failure, or though none is due. Raises ChallengeError."""
    if state.phase is Phase.FAILED:
        return make_due(state, Cause.PERSON, moment, by)
    if state.phase is not Phase.PASSED:
        raise ChallengeError("a challenge has begun already: load the page again")
    if (why := explain_expired(challenge, moment.day)) is not None:
        raise ChallengeError(why)
    return msgspec.structs.replace(make_due(state, Cause.PERSON, moment, by), was_passed=True)


def withdraw(state: ChallengeState) -> ChallengeState:
    """The person does without the challenge that was begun though none was due. Raises ChallengeError."""
    if not can_withdraw(state):
        raise ChallengeError("the challenge was due, or a part was shown already: it can't be withdrawn")
    return _next(state, phase=Phase.PASSED, was_passed=False)


def can_withdraw(state: ChallengeState) -> bool:
    """Whether the line can be as it was before the challenge."""
    return state.phase is Phase.DUE and state.was_passed


def arm(
    state: ChallengeState, challenge: ChallengeSettings, part: str, by: str, moment: Moment
) -> ChallengeState:
    """The next frame with a part of the part's camera shows the part; the part before is away. Raises
    ChallengeError."""
    if state.phase is not Phase.DUE or challenge.part[state.place].id != part:
        raise ChallengeError("another step of the challenge is next: load the page again")
    if (why := explain_expired(challenge, moment.day)) is not None:
        raise ChallengeError(why)
    return _next(state, phase=Phase.ARMED, by=by, armed_ns=moment.monotonic_ns, lying=0)


def disarm(state: ChallengeState) -> ChallengeState:
    """The part does not come: the next frame is production again."""
    return _next(state, phase=Phase.DUE, armed_ns=0) if state.phase is Phase.ARMED else state


def interrupt(state: ChallengeState) -> ChallengeState:
    """A part whose outcome is unknown, or whose frame showed none, counts as not shown; it may lie there."""
    if state.phase is Phase.ARMED:
        state = msgspec.structs.replace(state, lying=state.place + 1, lying_since_ns=state.armed_ns)
    elif state.phase is not Phase.SHOWN:
        return state
    return _next(state, phase=Phase.DUE, armed_ns=0)


def note_shown(state: ChallengeState, captured_ns: int) -> ChallengeState:
    """The armed part's frame, captured then, has got its verdict. The part still lies under its camera."""
    return _next(
        state,
        phase=Phase.SHOWN,
        armed_ns=0,
        lying=state.place + 1,
        lying_since_ns=captured_ns,
        was_passed=False,
    )


def clear(
    state: ChallengeState, challenge: ChallengeSettings, marks: Sequence[CameraMark], moment: Moment
) -> ChallengeState:
    """The part that was shown last lies under its camera no longer."""
    if state.lying == 0:
        return state
    away = _next(state, lying=0)
    return _succeed(away, challenge, marks, moment) if state.phase is Phase.LEAVING else away


class Delivered(msgspec.Struct, frozen=True):
    """What became of the verdict of the part that was shown."""

    stage: Stage
    answer: str | None
    """The gateway's last answer."""
    must_be_actuated: bool
    """The gate must remove the part, and the gateway acknowledges."""
    is_late: bool
    """No answer is waited for any more, and the verdict has expired."""
    is_unheard: bool = False
    """The broker took the message to the gate while no client was subscribed."""


def find_wrong(expected: ExpectedVerdict, verdict: Verdict, reason: Reason) -> str | None:
    """Why this verdict on the part is wrong, in words; None for the right one."""
    if verdict.word == expected.value:
        return None
    return f"it got {verdict.word}{f' ({reason.word})' if reason.word else ''}, not {expected.value}"


def find_undelivered(delivered: Delivered) -> tuple[bool, str | None]:
    """Whether the outcome of the right verdict is known, and why it is wrong."""
    if delivered.answer not in (None, "accepted", ACTUATED):
        return True, f"the gateway answered {delivered.answer[:_LONGEST_ANSWER]!r}"
    if delivered.stage in MISSED:
        return (
            True,
            f"the gate did not get the verdict in time or did not act on it ({delivered.stage.name.lower()})",
        )
    if delivered.is_unheard and delivered.answer is None:
        return delivered.is_late, "no client was subscribed to the rejects, so no gate got it"
    if delivered.must_be_actuated:
        if delivered.answer == ACTUATED:
            return delivered.stage.is_final, None
        return delivered.is_late, "the gateway did not report that the part was removed (actuated)"
    return delivered.stage.is_final, None


def make_attempt(part: ChallengePartSettings, event: Event, by: str, wrong: str | None) -> Attempt:
    return Attempt(
        part=part.id,
        camera=part.camera,
        expected=part.expected.value,
        verdict=event.verdict.word,
        reason=event.reason.word,
        frame=event.frame,
        captured_utc=rfc3339(event.captured_utc_ns),
        snapshot=event.snapshot,
        by=by,
        wrong=wrong,
    )


def find_wrong_attempt(state: ChallengeState, part: str) -> Attempt | None:
    """The wrong attempt of the present challenge with that part, which has no second repeat; None without
    one."""
    return next((one for one in state.attempts if one.part == part and one.wrong), None)


def finish(
    state: ChallengeState,
    challenge: ChallengeSettings,
    attempt: Attempt,
    marks: Sequence[CameraMark],
    moment: Moment,
) -> ChallengeState:
    """What follows from an attempt: the next part, its repeat, the success or the failure."""
    attempts = (*state.attempts, attempt)
    if attempt.wrong is not None:
        if find_wrong_attempt(state, attempt.part) is None:
            return _next(state, phase=Phase.DUE, attempts=attempts)
        failure = Failure(
            utc=moment.utc,
            marks=tuple(marks),
            part=attempt.part,
            wrong=attempt.wrong,
            verdict=attempt.verdict,
            reason=attempt.reason,
            since=state.success,
        )
        return _next(state, phase=Phase.FAILED, attempts=attempts, failure=failure)
    if state.place + 1 < len(challenge.part):
        return _next(state, phase=Phase.DUE, attempts=attempts, place=state.place + 1)
    done = _next(state, phase=Phase.LEAVING, attempts=attempts)
    return done if state.lying else _succeed(done, challenge, marks, moment)


def _succeed(
    state: ChallengeState, challenge: ChallengeSettings, marks: Sequence[CameraMark], moment: Moment
) -> ChallengeState:
    success = Success(
        utc=moment.utc,
        utc_ns=moment.utc_ns,
        monotonic_ns=moment.monotonic_ns,
        by=state.by,
        parts=tuple(map(describe_part, challenge.part)),
        marks=tuple(marks),
    )
    return _next(state, phase=Phase.PASSED, success=success)
