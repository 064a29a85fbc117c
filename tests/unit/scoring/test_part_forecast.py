"""A part is expected only where parts come at equal distances, and not for long once it stays away."""

from __future__ import annotations

import pytest

from monitor.scoring.part_forecast import ExpectedPart, PartForecast


def forecast(**cameras: list[int]) -> PartForecast:
    made = PartForecast()
    for name, times in cameras.items():
        for time in times:
            made.see(name, time)
            made.see(name, time)
    return made


def test_the_next_part_is_one_distance_after_the_last_until_it_is_a_tenth_too_late() -> None:
    even = forecast(top=[0, 100, 205, 300, 400, 498])
    expected = ExpectedPart(598, 608, is_certain=True)
    assert even.find_next(498) == even.find_next(607) == expected
    assert even.find_next(608) is None


@pytest.mark.parametrize("times", [[0, 100, 200, 300, 400], [0, 100, 200, 300, 400, 520]])
def test_too_few_parts_or_unequal_distances_forecast_nothing(times: list[int]) -> None:
    assert forecast(top=times).find_next(times[-1]) is None


def test_the_first_part_of_several_cameras_is_certain_only_if_all_keep_their_distances() -> None:
    top, side = [0, 100, 200, 300, 400, 500], [30, 130, 230, 330, 430, 530]
    assert forecast(top=top, side=side).find_next(540) == ExpectedPart(600, 610, is_certain=True)
    assert forecast(top=top, side=side).find_next(615) == ExpectedPart(630, 640, is_certain=False)
    assert forecast(top=top, side=[30]).find_next(540) == ExpectedPart(600, 610, is_certain=False)
