"""A threshold is not moved far, and no known defect let through, without a warning."""

from __future__ import annotations

import pytest

from monitor.model.threshold_change import warn_of_change


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
