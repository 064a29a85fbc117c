"""A stream is undated once most of its stamps tell nothing, or 3 s of images show a wrong rate."""

from __future__ import annotations

import pytest

from drivers.stamp_judge import StampJudge

MS = 1_000_000
PERIOD = 100 * MS


def test_single_odd_stamps_do_no_harm() -> None:
    judge = StampJudge()
    for number in range(100):
        odd = number % 3 == 2
        assert judge.judge(-PERIOD if odd else PERIOD, not odd, PERIOD, steady=True) is None


def test_three_stamps_that_tell_nothing_are_enough_at_the_start_and_nine_later() -> None:
    judge = StampJudge()
    said = [judge.judge(None, False, PERIOD, steady=True) for _ in range(3)]
    assert said == [None, None, "its images have no time stamps"]
    later = StampJudge()
    for _ in range(50):
        later.judge(PERIOD, True, PERIOD, steady=True)
    said = [later.judge(0, False, PERIOD, steady=True) for _ in range(9)]
    assert said == [None] * 8 + ["its time stamps stand still"]
    said = [later.judge(PERIOD, True, PERIOD, steady=True) for _ in range(16)]
    assert said == ["its time stamps stand still"] * 15 + [None]


@pytest.mark.parametrize(
    ("advance", "said"),
    [
        (0.8 * PERIOD, None),
        (1.25 * PERIOD, None),
        (0.7 * PERIOD, "its time stamps run 30% too slow"),
        (1.6 * PERIOD, "its time stamps run 60% too fast"),
    ],
)
def test_a_rate_that_cant_be_learnt_is_named_after_three_seconds(advance: float, said: str | None) -> None:
    judge = StampJudge()
    answers = [judge.judge(round(advance), True, PERIOD, steady=True) for _ in range(30)]
    assert answers == [None] * 29 + [said]


def test_a_stall_within_the_three_seconds_measures_no_rate() -> None:
    judge = StampJudge()
    for number in range(100):
        stalls = number % 20 == 10
        assert judge.judge(PERIOD, True, 50 * PERIOD if stalls else PERIOD, steady=not stalls) is None
