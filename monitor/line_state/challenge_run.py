"""The rule of the challenge: known good and bad parts that a person shows to the line one after the other.

It knows nothing of frames, MQTT and files: pure functions from one state to the next, with the times as
arguments. The line is not ready while a challenge is due or has failed. A challenge succeeds once every part
has got its verdict, in the order of the settings. A wrong part is shown once more; if it is wrong again, the
challenge has failed, and a person begins a new one.
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

    @property
    def text(self) -> str:
        return {
            Cause.START: "the service was started",
            Cause.CHANGEOVER: "another recipe or version is in force",
            Cause.CLOCK: "the time since the last challenge is over",
            Cause.PARTS: "the challenge parts in the settings have changed",
            Cause.PERSON: "a person has begun it",
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
    """Of the present challenge, oldest first."""
    judged_by: dict[str, str] = {}
    """By camera: the sha256 of the version in force."""
    success: Success | None = None
    failure: Failure | None = None


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
    kept: ChallengeState | None, session: str, sequence: int, challenge: ChallengeSettings, moment: Moment
) -> ChallengeState:
    """The state with which a publisher begins. `kept` is the state on disk; None where there is none, or none
    that can be read. `sequence` is that on the board of this session, 0 at the start of the service.

    A state on disk that is older than the board was lost on the way: the challenge is due again.
    """
    if kept is None:
        return make_due(ChallengeState(sequence=sequence, session=session), Cause.START, moment)
    if sequence == 0:
        fresh = msgspec.structs.replace(kept, session=session, armed_ns=0)
        if fresh.success is not None:
            fresh = msgspec.structs.replace(
                fresh, success=msgspec.structs.replace(fresh.success, monotonic_ns=0)
            )
        if kept.phase is Phase.FAILED or (kept.phase is Phase.PASSED and not challenge.at_start):
            return _next(fresh)
        return make_due(fresh, Cause.START if challenge.at_start else kept.cause, moment)
    if kept.sequence != sequence or kept.session != session:
        lost = msgspec.structs.replace(kept, sequence=max(kept.sequence, sequence), session=session)
        return make_due(lost, kept.cause, moment)
    # The outcome of a part that was shown is lost: it is shown again, which is no repeat.
    return _next(kept, phase=Phase.DUE) if kept.phase is Phase.SHOWN else kept


def _next(state: ChallengeState, **changes: object) -> ChallengeState:
    return msgspec.structs.replace(state, sequence=state.sequence + 1, **changes)


def make_due(state: ChallengeState, cause: Cause, moment: Moment, by: str = "") -> ChallengeState:
    """A new challenge from its first part on."""
    return _next(
        state,
        phase=Phase.DUE,
        cause=cause,
        due_utc=moment.utc,
        place=0,
        by=by,
        armed_ns=0,
        attempts=(),
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


def begin(state: ChallengeState, by: str, moment: Moment) -> ChallengeState:
    """A person begins a new challenge: after a failure, or though none is due."""
    return make_due(state, Cause.PERSON, moment, by)


def arm(
    state: ChallengeState, challenge: ChallengeSettings, part: str, by: str, moment: Moment
) -> ChallengeState:
    """The next frame with a part of the part's camera shows the part. Raises ChallengeError."""
    if state.phase is not Phase.DUE or challenge.part[state.place].id != part:
        raise ChallengeError("another step of the challenge is next: load the page again")
    if (why := explain_expired(challenge, moment.day)) is not None:
        raise ChallengeError(why)
    return _next(state, phase=Phase.ARMED, by=by, armed_ns=moment.monotonic_ns)


def disarm(state: ChallengeState) -> ChallengeState:
    """The part does not come: the next frame is production again."""
    return _next(state, phase=Phase.DUE, armed_ns=0) if state.phase is Phase.ARMED else state


def note_shown(state: ChallengeState) -> ChallengeState:
    """The armed part's frame has got its verdict."""
    return _next(state, phase=Phase.SHOWN, armed_ns=0)


class Delivered(msgspec.Struct, frozen=True):
    """What became of the verdict of the part that was shown."""

    stage: Stage
    answer: str | None
    """The gateway's last answer."""
    must_be_actuated: bool
    """The gate must remove the part, and the gateway acknowledges."""
    is_late: bool
    """No answer is waited for any more."""


def find_wrong(expected: ExpectedVerdict, verdict: Verdict, reason: Reason) -> str | None:
    """Why this verdict on the part is wrong, in words; None for the right one."""
    if verdict.word == expected.value:
        return None
    return f"it got {verdict.word}{f' ({reason.word})' if reason.word else ''}, not {expected.value}"


def find_undelivered(delivered: Delivered) -> tuple[bool, str | None]:
    """Whether the outcome of the right verdict is known, and why it is wrong."""
    if delivered.answer not in (None, "accepted", ACTUATED):
        return True, f"the gateway answered {delivered.answer!r}"
    if delivered.stage in MISSED:
        return (
            True,
            f"the gate did not get the verdict in time or did not act on it ({delivered.stage.name.lower()})",
        )
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
            since=state.success,
        )
        return _next(state, phase=Phase.FAILED, attempts=attempts, failure=failure)
    if state.place + 1 < len(challenge.part):
        return _next(state, phase=Phase.DUE, attempts=attempts, place=state.place + 1)
    success = Success(
        utc=moment.utc,
        utc_ns=moment.utc_ns,
        monotonic_ns=moment.monotonic_ns,
        by=state.by,
        parts=tuple(map(describe_part, challenge.part)),
        marks=tuple(marks),
    )
    return _next(state, phase=Phase.PASSED, attempts=attempts, success=success)
