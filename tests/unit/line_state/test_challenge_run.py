"""A challenge succeeds only with each part's right verdict at the gate, and is due again when it must be."""

from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec
import pytest

from monitor.line_state import challenge_run
from monitor.line_state.challenge_run import (
    Attempt,
    CameraMark,
    Cause,
    ChallengeError,
    ChallengeState,
    Delivered,
    Hold,
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


def start(
    kept: ChallengeState | None, session: str, rules: ChallengeSettings, now: Moment | None = None
) -> ChallengeState:
    """The state at the start of a service whose last one ended in order."""
    return challenge_run.resume(kept, None, session, rules, MARKS, now or moment())


def show(state: ChallengeState, name: str, wrong: str | None = None, hours: float = 0.0) -> ChallengeState:
    armed = challenge_run.arm(state, rules(), name, "anna", moment(hours))
    shown = challenge_run.note_shown(armed, 1)
    judged = challenge_run.finish(shown, rules(), attempt(name, wrong), MARKS, moment(hours))
    return challenge_run.clear(judged, rules(), MARKS, moment(hours))


def succeed(**more: object) -> ChallengeState:
    due = start(None, "s", rules(**more))
    return show(show(due, "good-1"), "bad-1")


def test_every_part_must_get_its_verdict_in_order_before_the_challenge_succeeds() -> None:
    due = start(None, "s", rules())
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
    due = start(None, "s", rules())
    again = show(due, "good-1", wrong="it got reject")
    assert (again.phase, again.place) == (Phase.DUE, 0)
    assert show(again, "good-1").place == 1, "the repeat counts"
    failed = show(again, "good-1", wrong="it got reject")
    assert failed.phase is Phase.FAILED
    assert [one.wrong is not None for one in failed.attempts] == [True, True]
    assert failed.failure is not None
    assert (failed.failure.part, failed.failure.since) == ("good-1", None)
    assert challenge_run.observe(failed, rules(), {"top": "b"}, moment(99)).phase is Phase.FAILED
    assert start(failed, "t", rules(), moment(1)).phase is Phase.FAILED
    begun = challenge_run.begin(failed, rules(), "anna", moment(1))
    assert (begun.phase, begun.cause, begun.attempts) == (Phase.DUE, Cause.PERSON, ())
    done = show(show(begun, "good-1"), "bad-1")
    assert (done.phase, done.failure) == (Phase.PASSED, failed.failure), "its parts are still looked for"


def test_an_expired_part_cant_be_shown() -> None:
    due = start(None, "s", rules())
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
    due = start(None, "s", rules())
    half = show(challenge_run.observe(due, rules(), {"top": "a"}, moment()), "good-1")
    anew = challenge_run.observe(half, rules(), {"top": "b"}, moment())
    assert (anew.cause, anew.place, anew.attempts) == (Cause.CHANGEOVER, 0, ())


def test_a_clock_that_was_set_back_over_a_restart_does_not_put_the_challenge_off() -> None:
    kept = start(succeed(), "t", rules(at_start=False))
    assert kept.phase is Phase.PASSED
    assert challenge_run.observe(kept, rules(every_h=8), {}, moment(-48)).cause is Cause.CLOCK


def test_a_start_makes_it_due_unless_the_settings_say_otherwise() -> None:
    assert start(succeed(), "t", rules()).cause is Cause.START
    half = show(challenge_run.begin(succeed(), rules(), "anna", moment()), "good-1")
    anew = start(half, "t", rules(at_start=False))
    assert (anew.phase, anew.cause, anew.place) == (Phase.DUE, Cause.PERSON, 0)


def follow(kept: ChallengeState | None, board: ChallengeState, session: str = "s") -> ChallengeState:
    """The state of a publisher that finds `kept` on disk and `board` on the board."""
    brief = challenge_run.shorten(board, 8)
    return challenge_run.resume(kept, brief, session, rules(at_start=False), MARKS, moment())


def test_a_publisher_that_follows_a_killed_one_never_takes_a_lost_state_for_a_success() -> None:
    done = succeed()
    assert follow(done, done).phase is Phase.PASSED
    later = msgspec.structs.replace(done, sequence=done.sequence + 1)
    for kept in (done, None):
        behind = follow(kept, later)
        assert (behind.phase, behind.cause) == (Phase.DUE, Cause.LOST)
        assert behind.sequence > later.sequence
    armed = challenge_run.arm(start(None, "s", rules()), rules(), "good-1", "anna", moment())
    assert follow(armed, armed).phase is Phase.ARMED
    shown = challenge_run.note_shown(armed, 1)
    assert follow(shown, shown).phase is Phase.DUE


@pytest.mark.parametrize("session", ["s", "t"])
def test_a_failure_that_never_reached_the_disk_stays_one_also_after_a_restart(session: str) -> None:
    done = succeed()
    once = show(challenge_run.begin(done, rules(), "otto", moment(1)), "good-1", wrong="it got reject")
    failed = show(once, "good-1", wrong="it got reject")
    found = follow(done, failed, session)
    assert (found.phase, found.session) == (Phase.FAILED, session)
    assert found.failure is not None
    assert (found.failure.wrong, found.failure.marks, found.failure.since) == (
        "it got reject",
        MARKS,
        done.success,
    )
    assert found.attempts[-1].wrong == "it got reject"
    assert follow(done, once, session).phase is Phase.DUE
    repeated = show(follow(done, once, session), "good-1", wrong="it got reject")
    assert repeated.phase is Phase.FAILED, "the repeat is used up"


def test_a_wrong_part_has_no_further_repeat_where_the_challenge_begins_anew() -> None:
    once = show(start(None, "s", rules()), "good-1", wrong="it got reject")
    with pytest.raises(ChallengeError, match="has begun already"):
        challenge_run.begin(once, rules(), "mallory", moment())
    changed = challenge_run.observe(once, rules(), {"top": "a"}, moment())
    changed = challenge_run.observe(changed, rules(), {"top": "b"}, moment())
    assert changed.cause is Cause.CHANGEOVER
    for anew in (changed, start(once, "t", rules())):
        assert show(anew, "good-1", wrong="it got reject").phase is Phase.FAILED


def test_only_a_challenge_that_was_not_due_can_be_withdrawn_and_only_before_a_part_is_shown() -> None:
    begun = challenge_run.begin(succeed(), rules(), "anna", moment(1))
    assert challenge_run.withdraw(begun).phase is Phase.PASSED
    armed = challenge_run.arm(begun, rules(), "good-1", "anna", moment(1))
    assert challenge_run.can_withdraw(challenge_run.disarm(armed))
    for state in (start(None, "s", rules()), armed, show(begun, "good-1")):
        with pytest.raises(ChallengeError, match="can't be withdrawn"):
            challenge_run.withdraw(state)
    old = ChallengeSettings.model_validate({"part": [part("good-1", "pass", expires="2026-11-02")]})
    with pytest.raises(ChallengeError, match="has expired"):
        challenge_run.begin(succeed(), old, "anna", moment())


def test_a_part_that_nobody_lays_under_the_camera_is_not_armed_for_ever() -> None:
    armed = challenge_run.arm(start(None, "s", rules()), rules(), "good-1", "anna", moment())
    assert challenge_run.observe(armed, rules(), {}, moment(119 / 3600)).phase is Phase.ARMED
    assert challenge_run.observe(armed, rules(), {}, moment(121 / 3600)).phase is Phase.DUE


def test_the_challenge_succeeds_once_the_last_part_is_away() -> None:
    due = show(start(None, "s", rules()), "good-1")
    shown = challenge_run.note_shown(challenge_run.arm(due, rules(), "bad-1", "anna", moment()), 1)
    last = challenge_run.finish(shown, rules(), attempt("bad-1"), MARKS, moment())
    assert (last.phase, last.phase.hold) == (Phase.LEAVING, Hold.DUE)
    assert challenge_run.clear(last, rules(), MARKS, moment()).phase is Phase.PASSED
    gone = challenge_run.clear(shown, rules(), MARKS, moment())
    assert challenge_run.finish(gone, rules(), attempt("bad-1"), MARKS, moment()).phase is Phase.PASSED


def test_a_part_that_is_judged_while_the_service_stops_counts_as_not_shown() -> None:
    once = show(start(None, "s", rules()), "good-1", wrong="it got reject")
    shown = challenge_run.note_shown(challenge_run.arm(once, rules(), "good-1", "anna", moment()), 1)
    stopped = challenge_run.interrupt(shown)
    assert (stopped.phase, len(stopped.attempts)) == (Phase.DUE, 1)


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


def test_a_verdict_that_no_client_received_is_wrong_once_it_has_expired() -> None:
    waiting = challenge_run.find_undelivered(Delivered(Stage.SENT, None, False, False, is_unheard=True))
    assert not waiting[0]
    known, wrong = challenge_run.find_undelivered(Delivered(Stage.SENT, None, False, True, is_unheard=True))
    assert known
    assert wrong is not None
