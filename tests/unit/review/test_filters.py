"""Filters: each query is read exactly or refused with the name of its wrong part."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.review.filters import BadFilter, Filters


@pytest.mark.parametrize(
    "query",
    [
        {"camera": "../x"},
        {"day": "today"},
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
        Filters.parse(query)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(".5", 0.5), ("0,5", 0.5), (",5", 0.5), ("5.", 5.0), ("1e-3", 1e-3), (" 2,75 ", 2.75), ("3", 3.0)],
)
def test_a_score_is_taken_as_people_write_it(given: str, meant: float) -> None:
    assert Filters.parse({"least": given}).least == meant


@pytest.mark.parametrize("given", [".", ",", "1,2,3", "1.2.3", "1 2", "e5", "٣", "1_0", "0x1", "-.5"])
def test_what_is_no_score_is_refused(given: str) -> None:
    with pytest.raises(BadFilter, match="most: not a score"):
        Filters.parse({"most": given})


@given(least=st.floats(0, allow_nan=False, allow_infinity=False))
@example(0.024610123456789)
def test_a_limit_comes_through_an_address_to_the_last_digit(least: float) -> None:
    assert Filters.parse(Filters(least=least).query()).least == least


def test_filters_survive_the_way_through_an_address() -> None:
    filters = Filters("top", "2026-11-24", "disc", "overkill", "all", 0.01, 2.5)
    assert Filters.parse(filters.query()) == filters
    assert Filters().query() == {}
