"""Times of images from their stamps: an old image never gets a new time, a new one no old time for long."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.stream_clock import StreamClock
from tests.unit.drivers.stream_model import (
    Span,
    Stream,
    dated_new_too_late,
    lost_though_on_time,
    play,
)

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


PERIODS = st.sampled_from([33.3, 40, 100, 200, 500])
DRIFTS = st.one_of(st.just(0.0), st.floats(-0.05, 0.05))
STALLS = st.lists(st.tuples(st.floats(6, 25), st.floats(0.2, 3)), max_size=2).map(tuple)
STEPS = st.lists(st.tuples(st.floats(1, 28), st.floats(-20, 20)), max_size=3).map(tuple)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(PERIODS, DRIFTS, st.sampled_from([0.0, 3.0, 10.0]), STALLS, STALLS, st.integers(0, 9))
def test_a_drifting_clock_is_told_from_stalls_of_network_and_reader(
    period: float, drift: float, jitter: float, network: tuple[Span, ...], reader: tuple[Span, ...], seed: int
) -> None:
    stream = Stream(
        period_ms=period, drift=drift, jitter_ms=jitter, network=network, reader=reader, seed=seed
    )
    images = play(stream)
    assert not dated_new_too_late(images)
    assert not lost_though_on_time(images)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(PERIODS, DRIFTS, st.sampled_from([0.0, 3.0, 10.0]), STEPS)
def test_steps_of_the_stamps_lose_no_image(
    period: float, drift: float, jitter: float, steps: tuple[Span, ...]
) -> None:
    images = play(Stream(period_ms=period, drift=drift, jitter_ms=jitter, steps=steps))
    assert not dated_new_too_late(images)
    assert not lost_though_on_time(images)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(PERIODS, DRIFTS, st.floats(8, 15), st.floats(0.003, 0.2), st.sampled_from([0.0, 3.0]))
def test_a_backlog_that_grows_is_no_slow_clock(
    period: float, drift: float, begins: float, rate: float, jitter: float
) -> None:
    stream = Stream(60, period_ms=period, drift=drift, jitter_ms=jitter, growth=(begins, rate))
    images = play(stream)
    assert not dated_new_too_late(images)
    if rate >= 0.01:
        assert images[-1].stuck, "a new connection ends the backlog"


@pytest.mark.parametrize("percent", [0.1, 1, 5, 16, -1, -5, -16])
@pytest.mark.parametrize("period_ms", [33.3, 100])
def test_a_camera_with_another_frame_rate_than_it_stamps_is_fresh(percent: float, period_ms: float) -> None:
    images = play(Stream(120, period_ms=period_ms, drift=percent / 100))
    assert max(image.age_ms for image in images) < 50
    assert not dated_new_too_late(images)
    assert not any(image.undated or image.stuck for image in images)


@pytest.mark.parametrize("every_s", [2, 5])
@pytest.mark.parametrize("by_ms", [-400, -150, -50, 50, 150, 400])
def test_a_clock_that_is_set_again_and_again_loses_nothing(every_s: float, by_ms: float) -> None:
    steps = tuple((every_s * k, by_ms / 1000) for k in range(1, 12))
    images = play(Stream(60, drift=0.01 * (by_ms > 0), steps=steps))
    assert not lost_though_on_time(images)


@pytest.mark.parametrize("by_s", [-300, -0.176, -0.07, 0.04, 0.193, 7.77])
def test_a_step_within_a_stall_leaves_old_images_old(by_s: float) -> None:
    """A step forward by whole periods can't be told from images that the camera left out."""
    for period_ms in (40, 100, 200):
        images = play(Stream(40, period_ms=period_ms, network=((12, 3),), steps=((13.01, by_s),)))
        assert not dated_new_too_late(images)


def test_images_that_the_camera_left_out_end_its_backlog() -> None:
    """The camera's buffer holds 1 s of a stall of 5 s; after that it goes on with new images."""
    clock = StreamClock(120)
    for k in range(200):
        clock.captured(k * 5 * PERIOD // 2, k * 5 * PERIOD // 2)
    resumed = (20_000 + 5000) * MS
    for k in range(200, 210):
        resumed += MS
        assert resumed - clock.captured(k * 100 * MS, resumed) > 3900 * MS
    for k in range(251, 300):
        assert clock.captured(k * 100 * MS, k * 100 * MS) == k * 100 * MS


@pytest.mark.parametrize("wraps_at_s", [10, 12.5])
def test_stamps_that_wrap_around_change_nothing(wraps_at_s: float) -> None:
    """RTP stamps have 32 bits: at 90 kHz they begin anew after 13 hours, here also within a stall."""
    wrap = 2**32 * 10**9 // 90_000
    begins = wrap - round(wraps_at_s * 1e9)
    stream = Stream(40, network=((11.5, 2),), restamp=lambda number, stamp: (begins + stamp) % wrap)
    images = play(stream)
    assert not dated_new_too_late(images)
    assert not lost_though_on_time(images)


@pytest.mark.parametrize("drift", [0, 0.02])
@pytest.mark.parametrize("order", [(0, 2, 1), (0, 3, 1, 2), (0, 4, 2, 1, 3)])
def test_stamps_in_the_order_of_decoding_do_no_harm(order: tuple[int, ...], drift: float) -> None:
    """B-frames: a decoder needs images in another order than they are shown in."""

    def reorder(number: int, stamp: int) -> int:
        place = number % (len(order) - 1)
        shown = number - place + order[place + 1] - 1
        return round(shown * 100 * MS * (1 - drift))

    images = play(Stream(40, network=((12, 2),), reader=((20, 3),), restamp=reorder))
    assert not dated_new_too_late(images)
    assert not lost_though_on_time(images)


@pytest.mark.parametrize(
    ("restamp", "why"),
    [
        (lambda number, stamp: 0, "its time stamps stand still"),
        (lambda number, stamp: None, "its images have no time stamps"),
        (lambda number, stamp: None if number % 4 else stamp, "its images have no time stamps"),
        (lambda number, stamp: number * 7919 % 101 * 10**9, "its time stamps jump"),
        (lambda number, stamp: number // 4 * 4 * 100 * MS, "its time stamps stand still"),
        (lambda number, stamp: stamp * 3 // 5, "its time stamps run 40% too slow"),
        (lambda number, stamp: stamp * 8 // 5, "its time stamps run 60% too fast"),
        (lambda number, stamp: stamp // 1000, "its time stamps run far too slow"),
        (lambda number, stamp: stamp * 1000, "its time stamps jump"),
        (lambda number, stamp: -stamp, "its time stamps jump"),
    ],
)
def test_stamps_that_tell_nothing_are_named(restamp: object, why: str) -> None:
    images = play(Stream(30, restamp=restamp))  # type: ignore[arg-type]
    assert {image.undated for image in images[40:]} == {why}


def test_stamps_that_stop_are_named_within_a_second_and_forgiven_once_they_go_on() -> None:
    frozen = Stream(40, restamp=lambda number, stamp: min(stamp, 10**10) if number < 200 else stamp)
    images = play(frozen)
    assert not images[100].undated
    assert all(image.undated == "its time stamps stand still" for image in images[110:200])
    assert not any(image.undated for image in images[220:])
    assert not dated_new_too_late(images)
    assert not lost_though_on_time(images[220:])


def test_some_missing_stamps_are_bridged() -> None:
    every_third = Stream(40, network=((20, 2),), restamp=lambda number, stamp: stamp if number % 3 else None)
    images = play(every_third)
    assert not dated_new_too_late(images)
    assert not lost_though_on_time(images)


@pytest.mark.parametrize("growth", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("period_ms", [40, 100, 500])
def test_a_network_that_never_rests_is_no_slow_clock(period_ms: float, growth: float) -> None:
    """It is too slow for the stream from the first image on, so that stamps alone would look slow."""
    images = play(Stream(60, period_ms=period_ms, growth=(0, growth), rested=False))
    assert not dated_new_too_late(images)
    assert images[-1].stuck


@pytest.mark.parametrize("period_ms", [40, 100])
def test_a_good_clock_needs_no_rest(period_ms: float) -> None:
    """A camera that spreads its packets evenly leaves the network no rest."""
    images = play(Stream(600, period_ms=period_ms, drift=0.0003, jitter_ms=5, rested=False))
    assert max(image.age_ms for image in images) < 20


@pytest.mark.parametrize(
    ("period_ms", "scatter_ms", "drift"),
    [(40, 4, 0), (40, 6, 0), (40, 10, 0), (100, 10, 0), (100, 15, 0), (40, 4, 0.01), (100, 5, -0.05)],
)
def test_stamps_that_scatter_lose_no_image(period_ms: float, scatter_ms: float, drift: float) -> None:
    stream = Stream(600, period_ms=period_ms, stamp_jitter_ms=scatter_ms, drift=drift)
    images = play(stream)
    assert not lost_though_on_time(images)
    assert not dated_new_too_late(images)
    assert not images[-1].stuck


@pytest.mark.parametrize(("period_ms", "late_ms"), [(40, 20), (100, 20), (100, 60)])
def test_stamps_that_software_puts_late_lose_no_image(period_ms: float, late_ms: float) -> None:
    images = play(Stream(600, period_ms=period_ms, stamp_late_ms=late_ms))
    assert not lost_though_on_time(images)
    assert not images[-1].stuck


@pytest.mark.parametrize("by_ms", [12, 20, 30])
def test_stamps_that_alternate_lose_no_image(by_ms: int) -> None:
    def alternate(number: int, stamp: int) -> int:
        return stamp + (by_ms * MS if number % 2 else -by_ms * MS)

    images = play(Stream(60, restamp=alternate))
    assert not lost_though_on_time(images)


@pytest.mark.parametrize(("period_ms", "late_ms"), [(40, 10), (40, 20), (33.3, 10), (100, 20), (100, 40)])
def test_arrivals_that_scatter_lose_no_image(period_ms: float, late_ms: float) -> None:
    images = play(Stream(600, period_ms=period_ms, late_ms=late_ms))
    assert not lost_though_on_time(images)
    assert not images[-1].stuck


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from([40, 100, 200]),
    st.sampled_from([0.0, 0.01, -0.01, 0.05]),
    st.floats(0, 0.1),
    st.floats(0, 0.1),
    STALLS,
)
def test_scatter_of_stamps_and_arrivals_is_told_from_stalls(
    period: float, drift: float, jitter: float, stamps: float, network: tuple[Span, ...]
) -> None:
    stream = Stream(
        120,
        period_ms=period,
        drift=drift,
        jitter_ms=jitter * period,
        stamp_jitter_ms=stamps * period,
        network=network,
    )
    images = play(stream)
    assert not dated_new_too_late(images)
    assert not lost_though_on_time(images)


@pytest.mark.parametrize("growth", [0.01, 0.05])
@pytest.mark.parametrize("period_ms", [40, 100])
def test_scatter_hides_no_backlog_that_grows(period_ms: float, growth: float) -> None:
    stream = Stream(
        120, period_ms=period_ms, jitter_ms=5, stamp_jitter_ms=period_ms / 20, growth=(30, growth)
    )
    images = play(stream)
    assert not dated_new_too_late(images)
    assert images[-1].stuck


@pytest.mark.parametrize("drift", [0, 0.01])
@pytest.mark.parametrize("period_ms", [40, 100])
@pytest.mark.parametrize("seed", [6, 7, 8])
def test_scatter_of_a_tenth_hides_no_backlog_that_grows_after_half_a_minute(
    seed: int, period_ms: float, drift: float
) -> None:
    scatter_ms = period_ms / 10
    stream = Stream(
        120,
        period_ms=period_ms,
        drift=drift,
        jitter_ms=scatter_ms,
        stamp_jitter_ms=scatter_ms,
        growth=(30, 0.005),
        seed=seed,
    )
    assert not dated_new_too_late(play(stream))


@pytest.mark.parametrize("drift", [0.01, 0.05, -0.05])
@pytest.mark.parametrize("gaps", [(1, 2), (1, 1, 1, 2), (1, 3), (1,) * 10 + (25,)])
def test_uneven_distances_do_not_hide_a_slow_clock(gaps: tuple[int, ...], drift: float) -> None:
    """A sensor with 30 images a second that feeds 20 images a second leaves out every third."""
    clock = StreamClock(120)
    now = 0
    for number in range(2000):
        now += gaps[number % len(gaps)] * PERIOD
        assert now - clock.captured(round(now * (1 - drift)), now) < 150 * MS
    assert not clock.stuck(now)


@pytest.mark.parametrize("drift", [0.01, 0.05])
@pytest.mark.parametrize(("every_s", "lasts_s"), [(0.5, 0.12), (2, 0.3)])
def test_short_stalls_again_and_again_do_not_hide_a_slow_clock(
    every_s: float, lasts_s: float, drift: float
) -> None:
    stalls = tuple((1 + every_s * number, lasts_s) for number in range(round(60 / every_s)))
    images = play(Stream(60, period_ms=40, drift=drift, network=stalls))
    assert not lost_though_on_time(images)
    assert not dated_new_too_late(images)


@pytest.mark.parametrize("drift", [0.01, 0.05])
def test_images_left_out_at_random_do_not_hide_a_slow_clock(drift: float) -> None:
    images = play(Stream(300, period_ms=40, drift=drift, left_out=0.3))
    assert not lost_though_on_time(images)


def test_a_reader_that_is_too_slow_is_no_slow_clock() -> None:
    """The backlog lies in this machine's own buffer: no read ever waits."""
    images = play(Stream(30, growth=(0, 0.05), always_waited=False))
    assert not dated_new_too_late(images)
    assert images[-1].stuck
