"""Every frame closes exactly once and in time, and its event tells what happened to it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.line_state.changeover import RecipeIdentity
from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import FinalVerdict, ScorerVerdict, Tally
from monitor.line_state.verdict_rules import (
    Consequences,
    PixelState,
    PublisherTurn,
    count,
    decide,
    derive_consequences,
    make_event,
)
from monitor.settings import CameraSettings, Settings
from monitor.verdict import Reason, Verdict, judge

CAPTURED, DECIDE_BY, DEADLINE, EXPIRES = 1000, 1200, 1250, 1750
PLATE = RecipeIdentity("plate", "cd" * 32, 3)
CAMERA = CameraSettings(name="top", source="simulated://plate", recipe="plate")


def frame(refused: Reason = Reason.NONE) -> Frame:
    return Frame(
        7, CAPTURED, 5_000_000, DECIDE_BY, DEADLINE, EXPIRES, -1, -1, 0, PixelFormat.Mono8, 1, 1, refused
    )


def scored(score: float, at: int = 1100) -> ScorerVerdict:
    verdict, reason = judge(score, 1.0)
    return ScorerVerdict(verdict, reason, score, 1.0, at - 10, at, "cd" * 32, verdict is Verdict.REJECT)


def turn(now: int, *, lost: bool = False, since: int = 0, stopping: bool = False) -> PublisherTurn:
    return PublisherTurn(now, 99, since, lost, stopping)


def outcome(closed: FinalVerdict | None) -> tuple[Verdict, Reason] | None:
    return (closed.verdict, closed.reason) if closed else None


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.5, Verdict.PASS), (1.0, Verdict.PASS), (1.0001, Verdict.REJECT)],
)
def test_the_scorers_verdict_is_taken_at_once(score: float, verdict: Verdict) -> None:
    assert outcome(decide(frame(), PixelState.FILLED, scored(score), turn(1101))) == (verdict, Reason.NONE)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_a_pass(score: float) -> None:
    assert judge(score, 1.0) == (Verdict.UNINSPECTED, Reason.BAD_SCORE)
    assert judge(0.1, score) == (Verdict.UNINSPECTED, Reason.BAD_SCORE)


def test_a_frame_waits_for_its_score_until_decide_by_and_no_longer() -> None:
    assert decide(frame(), PixelState.FILLED, None, turn(DECIDE_BY - 1)) is None
    late = decide(frame(), PixelState.FILLED, None, turn(DECIDE_BY))
    assert outcome(late) == (Verdict.UNINSPECTED, Reason.DEADLINE)


def test_the_reason_names_the_worker_that_failed() -> None:
    def reason(pixels: PixelState, turn: PublisherTurn) -> Reason | None:
        closed = decide(frame(), pixels, None, turn)
        return closed.reason if closed else None

    assert reason(PixelState.ABANDONED, turn(DECIDE_BY)) is Reason.CAPTURE_LOST
    assert reason(PixelState.FILLED, turn(DECIDE_BY, lost=True)) is Reason.SCORER_LOST
    assert reason(PixelState.BEING_WRITTEN, turn(DECIDE_BY, lost=True)) is Reason.DEADLINE
    refused = decide(frame(Reason.QUEUE_FULL), PixelState.BEING_WRITTEN, None, turn(1001))
    assert outcome(refused) == (Verdict.UNINSPECTED, Reason.QUEUE_FULL)


@pytest.mark.parametrize("now", [DECIDE_BY, DEADLINE + 800])
@pytest.mark.parametrize("pixels", [PixelState.FILLED, PixelState.BEING_WRITTEN])
def test_workers_that_are_slow_are_not_called_lost(pixels: PixelState, now: int) -> None:
    assert outcome(decide(frame(), pixels, None, turn(now))) == (Verdict.UNINSPECTED, Reason.DEADLINE)


def test_a_pass_that_a_slow_publisher_finds_too_late_is_a_missed_deadline() -> None:
    late = decide(frame(), PixelState.FILLED, scored(0.5), turn(DEADLINE + 800))
    assert outcome(late) == (Verdict.UNINSPECTED, Reason.DEADLINE)


def test_after_the_deadline_the_scorers_own_reason_is_kept() -> None:
    back = turn(DEADLINE + 10, since=DEADLINE + 5)
    bad = (Verdict.UNINSPECTED, Reason.BAD_SCORE)
    assert outcome(decide(frame(), PixelState.FILLED, scored(math.nan), back)) == bad


def test_after_the_deadline_a_reject_is_kept_and_a_pass_is_not() -> None:
    back = turn(DEADLINE + 10, since=DEADLINE + 5)
    assert outcome(decide(frame(), PixelState.FILLED, scored(2.0), back)) == (Verdict.REJECT, Reason.NONE)
    lost = (Verdict.UNINSPECTED, Reason.PUBLISHER_LOST)
    assert outcome(decide(frame(), PixelState.FILLED, scored(0.5), back)) == lost
    assert outcome(decide(frame(), PixelState.FILLED, None, back)) == lost


def test_a_score_that_came_after_the_deadline_changes_nothing() -> None:
    late = scored(2.0, at=DEADLINE + 20)
    closed = decide(frame(), PixelState.FILLED, late, turn(DEADLINE + 30))
    assert outcome(closed) == (Verdict.UNINSPECTED, Reason.DEADLINE)


def test_an_orderly_stop_leaves_no_part_without_a_verdict() -> None:
    assert decide(frame(), PixelState.FILLED, None, turn(1001, stopping=True)) is not None


@given(
    now=st.integers(CAPTURED, 3000),
    pixels=st.sampled_from(PixelState),
    score=st.none() | st.floats(allow_nan=True, allow_infinity=True),
    scored_at=st.integers(CAPTURED, 3000),
    lost=st.booleans(),
    since=st.integers(0, 3000),
    refused=st.sampled_from([Reason.NONE, Reason.QUEUE_FULL, Reason.NO_FRAME]),
)
def test_a_pass_needs_a_finite_score_in_time_and_nothing_stays_open(
    now: int,
    pixels: PixelState,
    score: float | None,
    scored_at: int,
    lost: bool,
    since: int,
    refused: Reason,
) -> None:
    of_scorer = None if score is None else scored(score, scored_at)
    closed = decide(frame(refused), pixels, of_scorer, turn(now, lost=lost, since=since))
    if closed is None:
        assert now < DECIDE_BY
        assert of_scorer is None
        return
    if closed.verdict is Verdict.PASS:
        assert now < DEADLINE
        assert refused is Reason.NONE
        assert score is not None
        assert score <= 1.0
        assert math.isfinite(score)
    assert (closed.verdict is Verdict.UNINSPECTED) == (closed.reason is not Reason.NONE)


def consequences(
    verdict: Verdict,
    *,
    is_repeat: bool = False,
    publish: str = "every-part",
    journal: str = "problems",
    **camera: str,
) -> Consequences:
    """Of a judged pass or reject, or an uninspected part; `camera` are further settings of its camera."""
    reason = Reason.DEADLINE if verdict is Verdict.UNINSPECTED else Reason.NONE
    is_judged = reason is Reason.NONE
    closed = FinalVerdict(verdict, reason, is_judged, verdict is Verdict.REJECT, 0, 0)
    top = CameraSettings(name="top", source="simulated://plate", recipe="plate", **camera)  # type: ignore[arg-type]
    settings = Settings(mqtt={"publish_verdicts": publish}, journal={"verdicts": journal})  # type: ignore[arg-type]
    return derive_consequences(closed, top, settings, is_repeat=is_repeat)


@pytest.mark.parametrize(
    ("on_uninspected", "is_for_gate", "latch"),
    [("reject", True, Latch.NONE), ("pass", False, Latch.NONE), ("stop", False, Latch.UNINSPECTED)],
)
def test_uninspected_fails_safe_unless_the_settings_say_otherwise(
    on_uninspected: str, is_for_gate: bool, latch: Latch
) -> None:
    assert consequences(Verdict.UNINSPECTED).is_for_gate
    uninspected = consequences(Verdict.UNINSPECTED, on_uninspected=on_uninspected)
    assert (uninspected.is_for_gate, uninspected.latch) == (is_for_gate, latch)
    rejected = consequences(Verdict.REJECT, on_uninspected=on_uninspected)
    assert (rejected.is_for_gate, rejected.latch) == (True, Latch.NONE)
    passed = consequences(Verdict.PASS, on_uninspected=on_uninspected)
    assert (passed.is_for_gate, passed.latch) == (False, Latch.NONE)


@pytest.mark.parametrize("on_uninspected", ["reject", "pass", "stop"])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_live_view_never_actuates_and_never_stops_the_line(verdict: Verdict, on_uninspected: str) -> None:
    result = consequences(verdict, mode="latest", on_uninspected=on_uninspected)
    assert not result.is_for_gate
    assert result.latch is Latch.NONE


@pytest.mark.parametrize(
    ("mode", "publish", "is_published"),
    [
        ("every-part", "every-part", True),
        ("latest", "every-part", False),
        ("every-part", "all", True),
        ("latest", "all", True),
        ("every-part", "none", False),
        ("latest", "none", False),
    ],
)
def test_which_cameras_publish_their_passes(mode: str, publish: str, is_published: bool) -> None:
    result = consequences(Verdict.PASS, mode=mode, publish=publish)
    assert result.is_published is is_published
    assert result.is_sent is is_published


def test_a_reject_goes_to_the_gate_though_no_verdict_is_published() -> None:
    result = consequences(Verdict.REJECT, publish="none")
    assert (result.is_for_gate, result.is_published, result.is_sent) == (True, False, True)


def test_a_repeat_in_a_live_view_goes_at_most_to_a_journal_that_keeps_everything() -> None:
    live = {"mode": "latest", "publish": "all"}
    first = consequences(Verdict.REJECT, **live)
    assert (first.is_published, first.is_journalled) == (True, True)
    repeat = consequences(Verdict.REJECT, is_repeat=True, **live)
    assert (repeat.is_published, repeat.is_journalled) == (False, False)
    assert consequences(Verdict.REJECT, is_repeat=True, journal="all", **live).is_journalled


def test_a_frame_closed_without_its_score_gets_no_snapshot() -> None:
    assert consequences(Verdict.REJECT).has_snapshot
    assert not consequences(Verdict.PASS).has_snapshot
    settings = Settings()
    without_score = FinalVerdict(Verdict.UNINSPECTED, Reason.DEADLINE, False, True, 0, 0)
    assert not derive_consequences(without_score, CAMERA, settings).has_snapshot


def test_the_event_carries_the_score_only_when_the_verdict_is_the_scorers() -> None:
    judged = decide(frame(), PixelState.FILLED, scored(2.0), turn(1101))
    assert judged is not None
    payload = make_event("p/l", "s", CAMERA, PLATE, frame(), judged, scored(2.0)).payload(400)
    assert (payload["verdict"], payload["score"], payload["threshold"]) == ("reject", 2.0, 1.0)
    assert payload["snapshot"] == "1970-01-01/top/000000005_top_7_2.jpg"
    assert (payload["recipe"], payload["recipe_sha"], payload["version"]) == ("plate", "cd" * 32, 3)

    late = decide(frame(), PixelState.FILLED, None, turn(DECIDE_BY))
    assert late is not None
    payload = make_event("p/l", "s", CAMERA, PLATE, frame(), late, scored(2.0)).payload(400)
    assert (payload["verdict"], payload["reason"]) == ("uninspected", "deadline")
    assert [payload[key] for key in ("score", "threshold", "snapshot", "recipe_sha", "version")] == [None] * 5


def test_a_repeat_of_an_event_has_the_same_id_and_other_frames_have_others() -> None:
    closed = FinalVerdict(Verdict.PASS, Reason.NONE, True, False, 0, 0)
    one = make_event("p/l", "s", CAMERA, PLATE, frame(), closed, scored(0.5))
    assert one.event_id == make_event("p/l", "s", CAMERA, PLATE, frame(), closed, scored(0.5)).event_id
    assert one.event_id != make_event("p/l", "t", CAMERA, PLATE, frame(), closed, scored(0.5)).event_id


@given(st.lists(st.sampled_from(list(Verdict)), max_size=50))
def test_counts_add_up_to_the_frames(verdicts: list[Verdict]) -> None:
    tally = Tally()
    for number, verdict in enumerate(verdicts, start=1):
        reason = Reason.DEADLINE if verdict is Verdict.UNINSPECTED else Reason.NONE
        tally = count(tally, number, FinalVerdict(verdict, reason, True, False, 0, 0), missed=False)
    assert tally.frames == tally.cursor == len(verdicts)


def test_frames_are_counted_in_order_and_once() -> None:
    closed = FinalVerdict(Verdict.PASS, Reason.NONE, True, False, 0, 0)
    tally = count(Tally(), 1, closed, missed=False)
    for wrong in (1, 3):
        with pytest.raises(ValueError, match="can't be counted"):
            count(tally, wrong, closed, missed=False)
