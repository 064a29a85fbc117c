"""Without stamps, images are dated by their arrival, and those that waited through a gap are still old."""

from __future__ import annotations

import pytest

from drivers.arrival_clock import ArrivalClock
from tests.unit.drivers.stream_model import (
    MS,
    Stream,
    dated_new_too_late,
    lost_though_on_time,
    play,
)


@pytest.mark.parametrize("stamp", [lambda number, stamp: None, lambda number, stamp: 0])
@pytest.mark.parametrize("jitter_ms", [0, 20])
def test_stamps_that_tell_nothing_lose_no_image(stamp: object, jitter_ms: float) -> None:
    images = play(Stream(30, jitter_ms=jitter_ms, restamp=stamp), ArrivalClock())  # type: ignore[arg-type]
    assert not lost_though_on_time(images)
    assert all(abs(image.age_ms) <= 2 * jitter_ms + 1 for image in images)


@pytest.mark.parametrize("period_ms", [40, 100, 500])
@pytest.mark.parametrize("kind", ["network", "reader"])
def test_a_burst_after_a_stall_is_old(period_ms: float, kind: str) -> None:
    spans = ((10.01, 2.0), (20.01, 5.0))
    stream = Stream(40, period_ms=period_ms, **{kind: spans})  # type: ignore[arg-type]
    images = play(stream, ArrivalClock())
    assert not dated_new_too_late(images)
    assert len(lost_though_on_time(images)) <= 3 * len(spans), "three images show that the backlog is over"


def test_a_camera_that_paused_is_fresh_again_after_three_images() -> None:
    clock = ArrivalClock()
    for number in range(50):
        clock.captured(None, number * 100 * MS)
    ages = [10_000 + n * 100 - clock.captured(None, (10_000 + n * 100) * MS) // MS for n in range(6)]
    assert ages[0] > 4900
    assert ages[3:] == [0, 0, 0]


@pytest.mark.parametrize("period_ms", [25, 300])
def test_another_frame_rate_is_taken_over(period_ms: int) -> None:
    clock = ArrivalClock()
    now = 0
    for _ in range(50):
        now += 100 * MS
        clock.captured(None, now)
    for _ in range(40):
        now += period_ms * MS
        captured = clock.captured(None, now)
    assert captured == now
    held_back = now + 2000 * MS
    assert clock.captured(None, held_back) == now + period_ms * MS, "a gap at the new rate is noticed"


@pytest.mark.parametrize(
    "gaps_ms", [(33, 67), (100, 200), (50, 300), (33, 33, 33, 67), (200, 900, 400, 1200)]
)
def test_images_at_uneven_distances_are_dated_by_their_arrival(gaps_ms: tuple[int, ...]) -> None:
    clock = ArrivalClock()
    now = 0
    ages = []
    for number in range(400):
        now += gaps_ms[number % len(gaps_ms)] * MS
        ages.append((now - clock.captured(None, now)) / MS)
    assert sum(age > 150 for age in ages) <= 4, "the first long distances may look like a gap"


@pytest.mark.parametrize("gaps_ms", [(33, 67), (100, 200)])
def test_a_gap_between_uneven_distances_is_noticed(gaps_ms: tuple[int, ...]) -> None:
    clock = ArrivalClock()
    now = 0
    for number in range(60):
        now += gaps_ms[number % 2] * MS
        clock.captured(None, now)
    for number in range(60, 67):
        now += 2000 * MS if number == 60 else MS
        assert now - clock.captured(None, now, waited=number == 60) > 500 * MS


@pytest.mark.parametrize(("period_ms", "mean_ms"), [(40, 10), (40, 20), (100, 20), (100, 30)])
def test_jitter_of_the_arrivals_loses_no_image(period_ms: float, mean_ms: float) -> None:
    images = play(Stream(120, period_ms=period_ms, late_ms=mean_ms), ArrivalClock())
    assert not lost_though_on_time(images)


@pytest.mark.parametrize("speed", [3, 10])
def test_a_backlog_that_comes_slowly_is_not_another_frame_rate(speed: float) -> None:
    clock = ArrivalClock()
    for number in range(200):
        clock.captured(None, number * 100 * MS)
    for number in range(200, 230):
        arrival = 23_000 + (number - 200) * 100 // speed
        assert clock.captured(None, int(arrival * MS)) <= (number * 100 + 100) * MS
