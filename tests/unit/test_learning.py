"""A user is told early that the student learns, and at the end when it did not."""

from __future__ import annotations

import pytest

from monitor.learning import closing_word, early_word


def power(exponent: float, epochs: int) -> list[float]:
    return [0.8 * epoch**-exponent for epoch in range(1, epochs + 1)]


def test_a_map_that_falls_means_that_it_learns() -> None:
    assert early_word([0.5, 0.4, 0.1, 0.05, 0.04]) == (
        "epoch 5: the mean map is at 8 % of the first epoch's: it learns"
    )
    assert "hardly learns" in early_word([0.5, 0.5, 0.49, 0.5, 0.48])


def test_a_usual_course_gets_no_warning() -> None:
    assert closing_word(power(2, 60), 60) is None
    assert closing_word([*power(2, 60), 0.3], 60) is None


def test_a_map_that_hardly_fell_is_said() -> None:
    warning = closing_word([0.5, 0.5, 0.49, 0.5, 0.48, 0.51], 5)
    assert warning is not None
    assert "hardly learned" in warning


def test_more_epochs_are_recommended_where_they_help() -> None:
    warning = closing_word(power(4, 20), 20)
    assert warning is not None
    assert "--epochs 40" in warning


def test_more_epochs_are_not_recommended_when_an_earlier_student_was_better() -> None:
    assert closing_word(power(4, 20), 12) is None


@pytest.mark.parametrize("maps", [[0.5], [0.5, 0.5], [0.0] * 4])
def test_too_few_epochs_are_said(maps: list[float]) -> None:
    warning = closing_word(maps, 1)
    assert warning is not None
    assert f"--epochs {len(maps)} nobody can tell" in warning


def test_a_perfect_student_is_no_reason_to_warn() -> None:
    assert closing_word([0.5, 0.1, 0.0, 0.0, 0.0, 0.0], 3) is None
    assert "it learns" in early_word([0.0, 0.0])
