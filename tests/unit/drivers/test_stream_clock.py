"""Times of images from their stamps: an old image never gets a new time, a new one no old time for long."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from drivers.stream_clock import StreamClock

MS = 1_000_000
PERIOD = 40 * MS


def test_undelayed_images_are_dated_by_their_arrival() -> None:
    clock = StreamClock(30)
    for k in range(100):
        assert clock.captured(k * PERIOD, 10**12 + k * PERIOD) == 10**12 + k * PERIOD


def test_a_backlog_keeps_its_old_times() -> None:
    """After a pause of 5 s FFmpeg delivers the stored images at once."""
    clock = StreamClock(30)
    for k in range(100):
        clock.captured(k * PERIOD, k * PERIOD)
    resumed = 100 * PERIOD + 5000 * MS
    for k in range(100, 225):
        assert clock.captured(k * PERIOD, resumed) == k * PERIOD
        resumed += MS
    assert not clock.stuck(resumed)
    assert clock.captured(400 * PERIOD, 400 * PERIOD) == 400 * PERIOD


def test_jitter_never_dates_an_image_late() -> None:
    chance = random.Random(1)
    clock = StreamClock(30)
    for k in range(500):
        arrival = k * PERIOD + chance.randrange(0, 30 * MS)
        captured = clock.captured(k * PERIOD, arrival)
        assert captured <= arrival
        if k > 50:
            assert abs(captured - k * PERIOD) < 5 * MS


def test_the_window_follows_a_drifting_clock() -> None:
    """A camera's clock that is 500 ppm too slow must not make images older than the window allows."""
    clock = StreamClock(30)
    for k in range(0, 60_000):
        arrival = k * PERIOD
        stamp = round(arrival * (1 - 500e-6))
        captured = clock.captured(stamp, arrival)
        assert arrival - captured <= 16 * MS
    clock = StreamClock(30)
    for k in range(0, 60_000):
        arrival = k * PERIOD
        assert clock.captured(round(arrival * (1 + 500e-6)), arrival) == arrival


def test_a_stream_set_back_stays_fresh() -> None:
    """An encoder that restarts begins its stamps at zero. Without a correction every later image would get an
    old time."""
    clock = StreamClock(30)
    for k in range(100):
        clock.captured(10**11 + k * PERIOD, k * PERIOD)
    for k in range(100, 200):
        assert clock.captured((k - 100) * PERIOD, k * PERIOD) == k * PERIOD


def test_a_stream_set_back_inside_a_backlog_stays_old() -> None:
    clock = StreamClock(30)
    for k in range(100):
        clock.captured(10**11 + k * PERIOD, k * PERIOD)
    resumed = 5000 * MS + 100 * PERIOD
    for k in range(100, 120):
        assert clock.captured(10**11 + k * PERIOD, resumed) == k * PERIOD
    for k in range(120, 200):
        captured = clock.captured((k - 120) * PERIOD, resumed)
        assert abs(captured - k * PERIOD) <= PERIOD


def test_a_stream_that_stays_behind_is_stuck() -> None:
    """A camera that stopped for a while, or a relay that never catches up, needs a new connection."""
    clock = StreamClock(30)
    for k in range(100):
        clock.captured(k * PERIOD, k * PERIOD)
    late = 3000 * MS
    stuck_after = None
    for k in range(100, 400):
        assert clock.captured(k * PERIOD, k * PERIOD + late) == k * PERIOD
        if clock.stuck(k * PERIOD + late):
            stuck_after = (k - 100) * PERIOD
            break
    assert stuck_after is not None
    assert 5000 * MS <= stuck_after <= 5200 * MS
    assert clock.lag_s() == 3.0


def test_one_stamp_too_far_ahead_does_no_harm() -> None:
    clock = StreamClock(30)
    for k in range(100):
        clock.captured(k * PERIOD, k * PERIOD)
    clock.captured(100 * PERIOD + 3000 * MS, 100 * PERIOD)
    for k in range(101, 200):
        assert clock.captured(k * PERIOD, k * PERIOD) == k * PERIOD


def test_a_stream_set_forth_goes_on_at_once() -> None:
    clock = StreamClock(30)
    for k in range(100):
        clock.captured(k * PERIOD, k * PERIOD)
    for k in range(100, 300):
        assert clock.captured(k * PERIOD + 10**13, k * PERIOD) == k * PERIOD


def test_without_stamps_arrival_is_all_there_is() -> None:
    clock = StreamClock(30)
    assert clock.captured(None, 5) == 5
    assert not clock.stuck(10**12)


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**10)), max_size=60))
def test_no_sequence_breaks_it(steps: list[tuple[int, int]]) -> None:
    clock = StreamClock(30)
    arrival = 0
    for stamp, wait in steps:
        arrival += wait
        assert clock.captured(stamp, arrival) <= arrival
