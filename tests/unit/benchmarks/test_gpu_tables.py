"""The GPU's proof claims a goal only where it was measured, and prints what there is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.gpu_tables import EAGER, PLAIN, PRODUCT, goals, table


def figures(**changes: Any) -> dict[str, Any]:
    ways = [
        {
            "compared": "student",
            "batch": batch,
            "way": way,
            "ms": 1.2,
            "frames_a_second": batch / 0.005,
            "of_eager": 0.4,
            "scores_apart": 1e-3,
        }
        for batch in (1, 64)
        for way in (EAGER, PLAIN, PRODUCT)
    ]
    growth = {
        "frames": 100,
        "wanted": 100,
        "seconds": 10.0,
        "device_bytes": [5, 5],
        "process_bytes": [7, 7],
        "grew": False,
    }
    whole: dict[str, Any] = {
        "rehearsal": False,
        "machine": {"device": "GPU", "torch": "2", "cuda": "13", "python": "3.12"},
        "size": {"batch": 64},
        "ways": ways,
        "growth": growth,
        "tests": {"passed": 10, "failed": 0, "skipped": 0},
    }
    return whole | changes


def test_all_goals_are_reached_by_figures_within_the_limits() -> None:
    assert [goal.reached for goal in goals(figures())] == [True] * 5


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"tests": {"passed": 9, "failed": 1, "skipped": 0}}, 0),
        ({"tests": {"passed": 9, "failed": 0, "skipped": 1}}, 0),
        ({"tests": {"passed": 0, "failed": 0, "skipped": 0}}, 0),
        ({"growth": figures()["growth"] | {"grew": True}}, 4),
        ({"growth": figures()["growth"] | {"frames": 99}}, 4),
    ],
)
def test_a_goal_that_was_not_shown_is_not_reached(changes: dict[str, Any], missed: int) -> None:
    assert [number for number, goal in enumerate(goals(figures(**changes))) if not goal.reached] == [missed]


def test_figures_that_ended_early_and_rehearsals_say_so() -> None:
    early = figures(rehearsal=True)
    del early["growth"]
    words = table(early)
    assert "not measured: growth" in words
    assert "say nothing about a GPU" in words
    assert "| student       | 64" in words
