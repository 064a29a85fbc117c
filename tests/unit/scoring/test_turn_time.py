"""The schedule's estimate of a turn's time follows the scorer, and ignores a single slow turn."""

from __future__ import annotations

from monitor.scoring.turn_time import TurnTime, alive_within_s


def test_a_slower_scorer_is_noticed_by_its_lanes_too() -> None:
    turn_time = TurnTime()
    turn_time.add(20)
    assert turn_time.lane_ns == 40, "twice a single turn before the first run"
    turn_time.add_lane(38)
    assert (turn_time.estimate_ns, turn_time.lane_ns) == (20, 38)
    for _ in range(5):
        turn_time.add_lane(200)
    assert turn_time.estimate_ns == 100
    assert turn_time.lane_ns == 0, "until single turns are as slow"


def test_lanes_that_take_too_long_are_not_used_for_a_while() -> None:
    turn_time = TurnTime()
    turn_time.add(20)
    turn_time.add_lane(43)
    assert turn_time.lane_ns == 43, "single turns were timed on a calm line"
    for _ in range(3):
        turn_time.add_lane(47)
    assert turn_time.lane_ns == 0
    tries = [turn_time.lane_ns for _ in range(600) if turn_time.add(20) is None]
    assert tries[0] == 0
    assert tries[-1] == 40, "lanes are tried again"


def test_one_slow_turn_does_not_change_the_estimate() -> None:
    turn_time = TurnTime()
    for elapsed in (20, 21, 900, 20):
        turn_time.add(elapsed)
    assert turn_time.estimate_ns <= 21


def test_an_estimate_that_is_too_long_falls_until_a_frame_is_tried() -> None:
    turn_time = TurnTime()
    for _ in range(5):
        turn_time.add(900)
    tries = 0
    while turn_time.estimate_ns > 200:
        turn_time.lower()
        tries += 1
    assert tries < 10


def test_a_scorer_whose_turns_take_seconds_may_report_later_and_one_that_hangs_may_not() -> None:
    assert alive_within_s(()) == 1.5
    assert alive_within_s((30_000_000, 400_000_000)) == 1.5
    assert alive_within_s((30_000_000, 2_000_000_000)) == 6.0
    assert alive_within_s((60_000_000_000,)) == 10.0


def test_plans_that_give_up_frames_do_not_shorten_the_time_until_the_next_report() -> None:
    turn_time = TurnTime()
    turn_time.add(2_000_000_000)
    for _ in range(7):
        turn_time.lower()
    assert turn_time.estimate_ns < 500_000_000
    assert alive_within_s((turn_time.usual_ns,)) == 6.0
