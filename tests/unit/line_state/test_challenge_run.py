"""A challenge succeeds only with each part's right verdict at the gate, and is due again when it must be."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from monitor.line_state import challenge_run
from monitor.line_state.challenge_run import (
    Attempt,
    CameraMark,
    Cause,
    ChallengeError,
    ChallengeState,
    Delivered,
    Moment,
    Phase,
)
from monitor.line_state.ring import Stage
from monitor.settings import ChallengeSettings, ExpectedVerdict
from monitor.verdict import Reason, Verdict

DAY = 1_795_000_000_000_000_000
"""A moment of November 2026, in UTC nanoseconds."""
HOUR = 3_600_000_000_000
MARKS = (CameraMark("top", "s", 9, 7, 1, 1),)


def part(name: str, expected: str, expires: str = "2027-01-31") -> dict[str, str]:
    known = {"id": name, "camera": "top", "expected": expected, "verified_by": "J. Smith"}
    return {**known, "verified": "2026-11-01", "expires": expires}


def rules(**more: object) -> ChallengeSettings:
    return ChallengeSettings.model_validate(
        {"part": [part("good-1", "pass"), part("bad-1", "reject")], **more}
    )


def moment(hours: float = 0.0) -> Moment:
    return Moment(int(1e9 + hours * HOUR), int(DAY + hours * HOUR))


def attempt(name: str, wrong: str | None = None) -> Attempt:
    return Attempt(
        part=name,
        camera="top",
        expected="pass",
        verdict="pass",
        reason=None,
        frame=1,
        captured_utc="",
        snapshot=None,
        by="anna",
        wrong=wrong,
    )


def show(state: ChallengeState, name: str, wrong: str | None = None, hours: float = 0.0) -> ChallengeState:
    armed = challenge_run.arm(state, rules(), name, "anna", moment(hours))
    shown = challenge_run.note_shown(armed)
    return challenge_run.finish(shown, rules(), attempt(name, wrong), MARKS, moment(hours))


def succeed(**more: object) -> ChallengeState:
    due = challenge_run.resume(None, "s", 0, rules(**more), moment())
    return show(show(due, "good-1"), "bad-1")


def test_every_part_must_get_its_verdict_in_order_before_the_challenge_succeeds() -> None:
    due = challenge_run.resume(None, "s", 0, rules(), moment())
    assert (due.phase, due.cause) == (Phase.DUE, Cause.START)
    with pytest.raises(ChallengeError, match="another step"):
        challenge_run.arm(due, rules(), "bad-1", "anna", moment())
    first = show(due, "good-1")
    assert (first.phase, first.place) == (Phase.DUE, 1)
    done = show(first, "bad-1")
    assert done.phase is Phase.PASSED
    assert done.success is not None
    assert (done.success.by, done.success.marks) == ("anna", MARKS)


def test_a_wrong_part_has_one_repeat_and_a_failure_needs_a_person() -> None:
    due = challenge_run.resume(None, "s", 0, rules(), moment())
    again = show(due, "good-1", wrong="it got reject")
    assert (again.phase, again.place) == (Phase.DUE, 0)
    assert show(again, "good-1").place == 1, "the repeat counts"
    failed = show(again, "good-1", wrong="it got reject")
    assert failed.phase is Phase.FAILED
    assert [one.wrong is not None for one in failed.attempts] == [True, True]
    assert failed.failure is not None
    assert (failed.failure.part, failed.failure.since) == ("good-1", None)
    assert challenge_run.observe(failed, rules(), {"top": "b"}, moment(99)).phase is Phase.FAILED
    assert challenge_run.resume(failed, "t", 0, rules(), moment(1)).phase is Phase.FAILED
    begun = challenge_run.begin(failed, "anna", moment(1))
    assert (begun.phase, begun.cause, begun.attempts) == (Phase.DUE, Cause.PERSON, ())
    done = show(show(begun, "good-1"), "bad-1")
    assert (done.phase, done.failure) == (Phase.PASSED, failed.failure), "its parts are still looked for"


def test_an_expired_part_cant_be_shown() -> None:
    due = challenge_run.resume(None, "s", 0, rules(), moment())
    old = ChallengeSettings.model_validate({"part": [part("good-1", "pass", expires="2026-11-02")]})
    with pytest.raises(ChallengeError, match="good-1 has expired"):
        challenge_run.arm(due, old, "good-1", "anna", moment())
    last = ChallengeSettings.model_validate({"part": [part("good-1", "pass", expires="2026-11-30")]})
    assert challenge_run.explain_expired(last, date(2026, 11, 30)) is None
    assert challenge_run.explain_expired(last, date(2026, 12, 1)) is not None


@pytest.mark.parametrize(
    ("zone", "day"),
    [("UTC", "2026-11-30"), ("Europe/Berlin", "2026-12-01"), ("America/New_York", "2026-11-30")],
)
def test_a_day_is_one_of_the_plants_clock(zone: str, day: str) -> None:
    before_midnight_ns = int(datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp()) * 1_000_000_000
    assert Moment(0, before_midnight_ns, zone).day.isoformat() == day


@pytest.mark.parametrize(
    ("more", "sha", "hours", "cause"),
    [
        ({}, "a", 100.0, None),
        ({}, "b", 1.0, Cause.CHANGEOVER),
        ({"after_changeover": False}, "b", 1.0, None),
        ({"every_h": 8}, "a", 7.9, None),
        ({"every_h": 8}, "a", 8.0, Cause.CLOCK),
        ({"part": [part("good-1", "pass")]}, "a", 1.0, Cause.PARTS),
    ],
)
def test_it_is_due_again_by_a_changeover_by_the_clock_and_for_other_parts(
    more: dict[str, object], sha: str, hours: float, cause: Cause | None
) -> None:
    done = challenge_run.observe(succeed(), rules(), {"top": "a"}, moment())
    assert done.phase is Phase.PASSED
    if "every_h" in more:
        assert challenge_run.find_due_utc(done, rules(**more)) == moment(8.0).utc
    after = challenge_run.observe(done, rules(**more), {"top": sha}, moment(hours))
    assert (after.cause if after.phase is Phase.DUE else None) == cause


def test_a_version_that_comes_in_force_in_the_middle_begins_the_challenge_anew() -> None:
    due = challenge_run.resume(None, "s", 0, rules(), moment())
    half = show(challenge_run.observe(due, rules(), {"top": "a"}, moment()), "good-1")
    anew = challenge_run.observe(half, rules(), {"top": "b"}, moment())
    assert (anew.cause, anew.place, anew.attempts) == (Cause.CHANGEOVER, 0, ())


def test_a_clock_that_was_set_back_over_a_restart_does_not_put_the_challenge_off() -> None:
    kept = challenge_run.resume(succeed(), "t", 0, rules(at_start=False), moment())
    assert kept.phase is Phase.PASSED
    assert challenge_run.observe(kept, rules(every_h=8), {}, moment(-48)).cause is Cause.CLOCK


def test_a_start_makes_it_due_unless_the_settings_say_otherwise() -> None:
    assert challenge_run.resume(succeed(), "t", 0, rules(), moment()).cause is Cause.START
    half = show(challenge_run.begin(succeed(), "anna", moment()), "good-1")
    anew = challenge_run.resume(half, "t", 0, rules(at_start=False), moment())
    assert (anew.phase, anew.cause, anew.place) == (Phase.DUE, Cause.PERSON, 0)


def test_a_publisher_that_follows_a_killed_one_never_takes_a_lost_state_for_a_success() -> None:
    done = succeed()
    assert challenge_run.resume(done, "s", done.sequence, rules(), moment()).phase is Phase.PASSED
    behind = challenge_run.resume(done, "s", done.sequence + 1, rules(), moment())
    assert behind.phase is Phase.DUE
    assert behind.sequence > done.sequence + 1
    due = challenge_run.resume(None, "s", 0, rules(), moment())
    armed = challenge_run.arm(due, rules(), "good-1", "anna", moment())
    assert challenge_run.resume(armed, "s", armed.sequence, rules(), moment()).phase is Phase.ARMED
    shown = challenge_run.note_shown(armed)
    assert challenge_run.resume(shown, "s", shown.sequence, rules(), moment()).phase is Phase.DUE
    assert challenge_run.resume(None, "s", 7, rules(), moment()).sequence > 7


@pytest.mark.parametrize(
    ("expected", "verdict", "reason", "is_right"),
    [
        ("pass", Verdict.PASS, Reason.NONE, True),
        ("pass", Verdict.REJECT, Reason.NONE, False),
        ("reject", Verdict.REJECT, Reason.NONE, True),
        ("reject", Verdict.UNINSPECTED, Reason.DEADLINE, False),
        ("reject", Verdict.PASS, Reason.NONE, False),
    ],
)
def test_only_the_expected_verdict_on_a_part_is_right(
    expected: str, verdict: Verdict, reason: Reason, is_right: bool
) -> None:
    assert (challenge_run.find_wrong(ExpectedVerdict(expected), verdict, reason) is None) == is_right


@pytest.mark.parametrize(
    ("stage", "answer", "must_be_actuated", "is_late", "outcome"),
    [
        (Stage.CLOSED, None, False, False, None),
        (Stage.SENT, None, False, False, True),
        (Stage.EXPIRED, None, False, False, False),
        (Stage.UNACKNOWLEDGED, None, True, False, False),
        (Stage.ACKNOWLEDGED, "accepted", True, False, None),
        (Stage.ACKNOWLEDGED, "accepted", True, True, False),
        (Stage.CLOSED, "actuated", True, False, None),
        (Stage.ACKNOWLEDGED, "actuated", True, True, True),
        (Stage.ACKNOWLEDGED, "failed", True, False, False),
        (Stage.CLOSED, "late", True, False, False),
    ],
)
def test_a_right_verdict_counts_once_it_is_at_the_gate_and_the_part_removed(
    stage: Stage, answer: str | None, must_be_actuated: bool, is_late: bool, outcome: bool | None
) -> None:
    is_known, wrong = challenge_run.find_undelivered(Delivered(stage, answer, must_be_actuated, is_late))
    assert (wrong is None if is_known else None) == outcome
