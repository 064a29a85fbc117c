"""Days and shifts are those of the plant's clock, also over midnight and when the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from monitor.review.shifts import PlantClock

BERLIN = PlantClock("Europe/Berlin", ("06:00", "14:00", "22:00"))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "day", "shift"),
    [
        ("2026-11-24T05:00", "2026-11-24", "06:00"),
        ("2026-11-24T04:59", "2026-11-23", "22:00"),
        ("2026-11-23T23:30", "2026-11-23", "22:00"),
        ("2026-11-24T20:59", "2026-11-24", "14:00"),
    ],
)
def test_the_time_after_midnight_belongs_to_the_night_shift(moment: str, day: str, shift: str) -> None:
    assert BERLIN.shift(utc(moment)) == (day, shift)
    period = BERLIN.period(day, shift)
    assert period.start <= utc(moment) < period.end


def test_the_shifts_of_a_day_follow_each_other_without_gap_also_when_clocks_change() -> None:
    # 2026-10-25: at 03:00 the clocks go back to 02:00, within the shift that began at 22:00 the day before.
    night, early = BERLIN.period("2026-10-24", "22:00"), BERLIN.period("2026-10-25", "06:00")
    assert night.end == early.start
    assert (night.end - night.start).total_seconds() == 9 * 3600
    day = BERLIN.period("2026-10-25")
    assert (day.end - day.start).total_seconds() == 25 * 3600
    assert BERLIN.shift_before("2026-10-25", "06:00") == ("2026-10-24", "22:00")


def test_a_time_is_shown_with_its_zone() -> None:
    assert BERLIN.show("2026-11-24T05:00:00.123Z") == "2026-11-24 06:00:00 CET"
    assert (
        f"{BERLIN.of_snapshot('2026-07-01', '220000123_top_7_0.1'):%Y-%m-%d %H:%M:%S}"
        == "2026-07-02 00:00:00"
    )


def test_snapshots_are_in_a_period_by_the_order_of_their_names() -> None:
    period = BERLIN.period("2026-11-24", "06:00")
    assert period.start_order <= ("2026-11-24", "050000000_top_1_0.1") < period.end_order
    assert period.start_order > ("2026-11-24", "045959999_top_1_0.1")
