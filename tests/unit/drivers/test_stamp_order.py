"""Stamps in the order of decoding are put in order; a clock that is set is not."""

from __future__ import annotations

from itertools import pairwise

import pytest

from drivers.stamp_order import StampOrder


@pytest.mark.parametrize("group", [(2, 1), (3, 1, 2), (4, 2, 1, 3)])
def test_stamps_of_b_frames_rise_evenly(group: tuple[int, ...]) -> None:
    order = StampOrder()
    stamps = [10 * len(group) * k + 10 * place for k in range(20) for place in group]
    arranged = [order.arrange(stamp) for stamp in stamps][20:]
    assert {later - earlier for earlier, later in pairwise(arranged)} == {10}


@pytest.mark.parametrize(
    "stamps",
    [
        list(range(0, 500, 10)),
        [*range(0, 300, 10), *range(270, 400, 10)],
        [*range(0, 300, 10), *range(0, 400, 10)],
        [number * 41 % 101 for number in range(60)],
        [7] * 30,
    ],
)
def test_other_stamps_are_handed_on(stamps: list[int]) -> None:
    order = StampOrder()
    assert [order.arrange(stamp) for stamp in stamps] == stamps
