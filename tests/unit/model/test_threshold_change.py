"""A threshold is not moved far, and no known defect let through, without a warning."""

from __future__ import annotations

import pytest

from monitor.model.recipe_json import DefectScores
from monitor.model.threshold_change import real_defects, warn_of_change


@pytest.mark.parametrize(
    ("before", "after", "passing", "words"),
    [
        (1.0, 2.0, 0, []),
        (1.0, 0.5, 0, []),
        (1.0, 2.01, 0, ["2 times higher"]),
        (0.01, 0.92, 3, ["3 of 10 known defects would pass", "92 times higher"]),
        (1.0, 0.4, 0, ["2.5 times lower"]),
        (1.0, 1.1, 1, ["1 of 10 known defects would pass"]),
        (0.0, 0.1, 0, ["from 0 to 0.1"]),
    ],
)
def test_a_large_move_and_a_defect_that_passes_are_warned_of(
    before: float, after: float, passing: int, words: list[str]
) -> None:
    defects = [after] * passing + [after + 0.1] * (10 - passing)
    warnings = warn_of_change(before, after, defects)
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


def test_a_defect_that_is_known_and_labelled_counts_once() -> None:
    scores = DefectScores(known=(1.0, 2.0), labelled=(2.0000001, 3.0))
    assert real_defects(scores, [0.9999999, 3.0, 4.0]) == (1.0, 2.0, 3.0, 4.0)
    assert real_defects(DefectScores(labelled=(2.0,)), [2.0, 2.0]) == (2.0, 2.0), "two parts of one score"
    assert real_defects(None, [1.0]) == (1.0,)
