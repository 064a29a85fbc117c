"""A quick score passes a part only where no known float32 score is above the threshold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.inference.second_look import BF16_RULE, INT8_RULE, MarginRule, first_look_limit, quick_pass_limit
from monitor.model.recipe_json import FirstLook

scores = st.floats(1e-6, 10)


@given(
    st.lists(st.tuples(scores, scores), min_size=8, max_size=60),
    scores,
    st.sampled_from((INT8_RULE, BF16_RULE)),
)
def test_no_known_image_that_is_a_reject_passes_by_its_quick_score(
    pairs: list[tuple[float, float]], threshold: float, rule: MarginRule
) -> None:
    clear = quick_pass_limit(pairs, threshold, rule)
    assert clear <= threshold / rule.min_ratio
    near = [pair for pair in pairs if pair[0] <= 2 * threshold]
    for quick, exact in near if len(near) >= 8 else pairs:
        assert not (quick <= clear and exact > threshold)


def test_what_lies_apart_only_where_a_defect_is_plain_costs_no_second_looks() -> None:
    good = [(0.010 + n / 1000, 0.010 + n / 1000) for n in range(10)]
    plain = [(1.0, 1.4)] * 10
    assert quick_pass_limit([*good, *plain], 0.03) == pytest.approx(0.03 / INT8_RULE.min_ratio)


@pytest.mark.parametrize(
    "pairs", [[], [(0.1, 0.1)] * 7, [(0.1, 0.1)] * 20 + [(0.0, 0.1)], [(0.1, 0.1)] * 20 + [(0.1, math.nan)]]
)
def test_where_too_little_is_known_nothing_passes_by_it(pairs: list[tuple[float, float]]) -> None:
    assert quick_pass_limit(pairs, 0.2) == -math.inf


def test_of_student_and_memory_the_one_that_is_further_apart_counts() -> None:
    alike, apart = ((0.1, 0.1),) * 8, ((0.1, 0.13),) * 8
    assert first_look_limit(FirstLook(pairs=alike), 0.2) == pytest.approx(0.2 / BF16_RULE.min_ratio)
    for parts in ({"student": apart, "memory": alike}, {"student": alike, "memory": apart}):
        found = FirstLook(pairs=alike, **parts)
        assert first_look_limit(found, 0.2) == pytest.approx(0.2 / (1.3 * BF16_RULE.reserve))


def test_without_pairs_of_bfloat16_nothing_passes_by_it() -> None:
    assert first_look_limit(None, 0.2) == -math.inf
    assert first_look_limit(FirstLook(pairs=()), 0.2) == -math.inf
