"""The usual interval is not misled by single odd ones."""

from __future__ import annotations

from drivers.intervals import Intervals


def test_one_odd_interval_changes_nothing() -> None:
    intervals = Intervals()
    for value in [100, 101, 99, 100, 5000, 100, 1]:
        intervals.add(value)
    assert (intervals.usual_ns, intervals.scatter_ns) == (100, 1)
    assert (intervals.short_ns, intervals.long_ns) == (99, 101)


def test_another_pace_is_followed() -> None:
    intervals = Intervals()
    for value in [100] * 15 + [40] * 8:
        intervals.add(value)
    assert intervals.usual_ns == 40
