"""A line early in the training tells whether the student learns, and a warning at its end if it did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.training.advice import closing_advice, early_advice
from monitor.training.student_selection import SelectionSet
from tests.real.parts import good_parts
from tests.real.small_training import train


def power(exponent: float, epochs: int) -> list[float]:
    return [0.8 * epoch**-exponent for epoch in range(1, epochs + 1)]


def test_a_map_that_falls_means_that_it_learns() -> None:
    assert early_advice([0.5, 0.4, 0.1, 0.05, 0.04]) == (
        "epoch 5: the mean anomaly map is at 8 % of the first epoch's: the student learns"
    )
    assert "hardly learns" in early_advice([0.5, 0.5, 0.49, 0.5, 0.48])


def test_a_usual_course_gets_no_warning() -> None:
    assert closing_advice(power(2, 60), 60, 30) is None
    assert closing_advice([*power(2, 60), 0.3], 60, 30) is None


def test_a_map_that_hardly_fell_is_said() -> None:
    warning = closing_advice([0.5, 0.5, 0.49, 0.5, 0.48, 0.51], 5, 30)
    assert warning is not None
    assert "hardly learned" in warning


def test_more_epochs_are_recommended_where_they_help() -> None:
    warning = closing_advice(power(4, 20), 20, 30)
    assert warning is not None
    assert "--epochs 40" in warning


def test_more_epochs_are_not_recommended_when_an_earlier_student_was_better() -> None:
    assert closing_advice(power(4, 20), 12, 30) is None


@pytest.mark.parametrize("maps", [[0.5], [0.5, 0.5], [0.0] * 4])
def test_too_few_epochs_are_said(maps: list[float]) -> None:
    warning = closing_advice(maps, 1, 30)
    assert warning is not None
    assert f"--epochs {len(maps)} is too few to tell" in warning


def test_a_perfect_student_is_no_reason_to_warn() -> None:
    assert closing_advice([0.5, 0.1, 0.0, 0.0, 0.0, 0.0], 3, 30) is None
    assert "the student learns" in early_advice([0.0, 0.0])


def test_an_early_student_that_few_images_chose_is_named_with_the_fix() -> None:
    """The maps of a run of 40 epochs with 4 select images: 3.52 at first, 1.69 kept, 0.19 at the end."""
    maps = [3.52, 2.4, 1.69, *(1.6 * epoch**-0.57 for epoch in range(2, 39))]
    assert 0.18 < min(maps) < 0.21
    warning = closing_advice(maps, 3, 4)
    assert warning is not None
    assert "\n" not in warning
    for words in ("epoch 3 of 40", "1.69", "4 images selected it", "more good images", "--seed"):
        assert words in warning
    assert "1 image selected it" in str(closing_advice(maps, 3, 1))
    assert closing_advice(maps, 40, 4) is None


@pytest.mark.parametrize(("first", "kept", "least"), [(2.15, 0.172, 0.080), (4.08, 0.0168, 0.0029)])
def test_a_kept_student_that_learnt_most_of_it_is_no_reason_to_warn(
    first: float, kept: float, least: float
) -> None:
    """The maps of two runs on 300 images, in which an earlier student separated drawn defects best."""
    assert closing_advice([first, 1.0, 0.5, kept, 0.3, 0.25, kept * 1.01, least], 4, 30) is None


def test_a_training_counts_the_images_that_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch's student separates the drawn defects best, and all others are equal."""
    separations = iter([1.0, *[0.9] * 9])
    monkeypatch.setattr(SelectionSet, "separation", staticmethod(lambda good, drawn: next(separations)))
    lines: list[str] = []
    train(tmp_path, good_parts(tmp_path / "good", 20), lines.append, size=32, epochs=10)
    assert any(
        "the student of epoch 1 of 10 was kept" in line and "2 images selected" in line for line in lines
    )
