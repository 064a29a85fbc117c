"""Filters: each query is read exactly or refused with the name of its wrong part."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.review.filters import BadFilter, Filters
from monitor.review.shifts import PlantClock

PLANT = PlantClock("Europe/Berlin", ("06:00", "22:00"))


@pytest.mark.parametrize(
    "query",
    [
        {"camera": "../x"},
        {"day": "today"},
        {"day": "2026-99-99"},
        {"day": "2026-11-24", "shift": "07:00"},
        {"label": "bad"},
        {"verdict": "maybe"},
        {"least": "nan"},
        {"most": "1e999"},
        {"least": "-1"},
        {"recipe": "x" * 33},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadFilter):
        Filters.parse(query, PLANT)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(".5", 0.5), ("0,5", 0.5), (",5", 0.5), ("5.", 5.0), ("1e-3", 1e-3), (" 2,75 ", 2.75), ("3", 3.0)],
)
def test_a_score_is_taken_as_people_write_it(given: str, meant: float) -> None:
    assert Filters.parse({"least": given}, PLANT).least == meant


@pytest.mark.parametrize("given", [".", ",", "1,2,3", "1.2.3", "1 2", "e5", "٣", "1_0", "0x1", "-.5"])
def test_what_is_no_score_is_refused(given: str) -> None:
    with pytest.raises(BadFilter, match="most: not a score"):
        Filters.parse({"most": given}, PLANT)


@given(least=st.floats(0, allow_nan=False, allow_infinity=False))
@example(0.024610123456789)
def test_a_limit_comes_through_an_address_to_the_last_digit(least: float) -> None:
    assert Filters.parse(Filters(least=least).query(), PLANT).least == least


def test_filters_survive_the_way_through_an_address() -> None:
    filters = Filters("top", "2026-11-24", "22:00", "disc", "overkill", "all", 0.01, 2.5).within(PLANT)
    assert Filters.parse(filters.query(), PLANT) == filters
    assert Filters().query() == {}
