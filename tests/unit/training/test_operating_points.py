"""What a recipe's thresholds reject and let pass is stated from recorded scores, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from monitor.model.recipe_json import Calibration, DefectScores, DefectSource, Document, Training
from monitor.training.operating_points import (
    RATES,
    count_labelled,
    explain_points,
    operating_points,
    own_point,
    state,
    statement,
    warning,
)
from monitor.training.thresholds import add_overkills, make_calibration, without_guarantee
from tests.real.parts import draft_recipe

GOOD = [n / 300 for n in range(1, 300)]
"""Scores of 299 good parts: the threshold is 0.99 for 1 % and 0.95 for 5 %."""


def document(
    folder: Path,
    calibration: Calibration,
    known: Sequence[float] = (),
    drawn: Sequence[float] = (),
    *,
    reliable: bool = False,
    training: Training | None = None,
) -> Document:
    """The document of a recipe `disc` that states what passes."""
    recipe = draft_recipe(folder / "disc").with_calibration({"torch-f32": calibration})
    scores = DefectScores(known=tuple(known), drawn=tuple(drawn), drawn_is_reliable=reliable)
    with_scores = msgspec.structs.replace(recipe.document, defect_scores=scores, training=training)
    return state(replace(recipe, document=with_scores)).document


def trained(*, images: int = 500, as_paper: bool = False) -> Training:
    return Training(
        utc="2026-11-24T00:00:00.000Z",
        images=images,
        train=images,
        select=0,
        calibrate=0,
        skipped=0,
        epochs=1,
        best_epoch=1,
        seed=0,
        as_paper=as_paper,
        optimiser="none",
        device="cpu",
        torch="2",
        seconds=0.0,
        losses=(),
        select_maps=(),
    )


def test_every_recipe_has_points_for_the_usual_rates_and_its_own() -> None:
    points = operating_points(make_calibration(GOOD, 0.03), None)
    assert [point.overkill for point in points] == [0.005, 0.01, 0.02, 0.03, 0.05]
    assert [point.threshold for point in points] == pytest.approx([299 / 300, 0.99, 0.98, 0.97, 0.95])
    # With 299 scores the threshold for 0.5 % is the highest score, which guarantees 1 / 300.
    assert [point.guarantee for point in points] == pytest.approx([1 / 300, 0.01, 0.02, 0.03, 0.05])
    assert [point.more_parts for point in points] == [0] * 5
    assert len(operating_points(make_calibration(GOOD, 0.01), None)) == len(RATES)


def test_points_that_the_images_do_not_reach_say_what_they_reach_and_what_is_missing() -> None:
    points = operating_points(make_calibration(GOOD[:60], 0.01), None)
    assert [point.threshold for point in points[:2]] == [GOOD[59]] * 2
    assert points[1].guarantee == pytest.approx(1 / 61)
    assert points[1].confident == pytest.approx(0.0487, abs=1e-4)
    assert [point.more_parts for point in points] == [139, 39, 0, 0]


def test_the_sentence_says_what_passes_at_the_own_rate_and_at_a_better_one(tmp_path: Path) -> None:
    found = document(tmp_path, make_calibration(GOOD, 0.01), [0.96, 0.97, 0.98, *[2.0] * 7])
    assert found.statement == (
        "With 1 % of good parts rejected (overkill, false rejects), 3 of your 10 known defects would pass "
        "(escape, missed defects; 7 to 65 % of such defects); with 5 %, none (0 to 31 %): "
        "line-monitor calibrate disc --overkill 0.05."
    )
    assert warning(found) == ""
    assert statement(found, with_commands=False).endswith("with 5 %, none (0 to 31 %).")


def test_a_page_says_the_same_without_a_command(tmp_path: Path) -> None:
    drawn = document(tmp_path, make_calibration(GOOD, 0.01), drawn=[0.96] * 20, reliable=True)
    for found in (drawn, document(tmp_path, make_calibration(GOOD, 0.01))):
        assert "line-monitor" in found.statement
        text = statement(found, with_commands=False)
        assert "line-monitor" not in text
        assert found.statement.startswith(text[:60])


def test_defects_that_were_labelled_count_as_known_and_it_is_said_what_they_leave_out(tmp_path: Path) -> None:
    found = document(tmp_path, make_calibration(GOOD, 0.01), [2.0])
    scores = DefectScores(known=(2.0,), labelled=(2.0, 0.5))
    recipe = replace(draft_recipe(tmp_path / "disc"), document=found)
    own = own_point(state(recipe.with_changes(defect_scores=scores)).document)
    assert own is not None
    assert (own.source, own.passed, own.defects) == (DefectSource.KNOWN, 1, 2)
    text = state(recipe.with_changes(defect_scores=scores)).document.statement
    now = own_point(count_labelled(found, [2.0, 0.5]))
    assert now == own, "the same as if they had been labelled before"
    assert "those that passed unseen do not count" in text


def test_the_sentence_says_the_rate_that_is_really_guaranteed(tmp_path: Path) -> None:
    found = document(tmp_path, make_calibration(GOOD[:60], 0.01), [0.9] * 10)
    assert found.statement.startswith(
        "With at most 1.7 % of good parts rejected (overkill, false rejects; 39 more good parts to calibrate "
        "for 1 %), "
    )


def test_a_single_defect_is_no_plural(tmp_path: Path) -> None:
    found = document(tmp_path, make_calibration(GOOD, 0.01), [0.5])
    assert "1 of your 1 known defect would pass" in found.statement


def test_where_nobody_knows_this_is_said_with_what_helps_most(tmp_path: Path) -> None:
    for drawn in ([], [0.1, 0.2]):
        found = document(tmp_path, make_calibration(GOOD, 0.01), drawn=drawn)
        own = own_point(found)
        assert own is not None
        assert (own.source, own.defects, own.passed_low) == (DefectSource.UNKNOWN, 0, None)
        for text in (found.statement, warning(found)):
            assert "10 or more images of bad parts: line-monitor calibrate disc --defects DIR" in text
        assert "it is not known how many defects would pass" in found.statement
        assert "nobody knows" in warning(found)


def test_drawn_defects_stand_in_only_where_they_are_reliable_and_nothing_is_known(tmp_path: Path) -> None:
    drawn = [0.5, *[2.0] * 19]
    found = document(tmp_path, make_calibration(GOOD, 0.01), drawn=drawn, reliable=True)
    assert "1 of 20 defects drawn on good images would pass" in found.statement
    assert "drawn defects only stand in for real ones" in found.statement
    known = document(tmp_path, make_calibration(GOOD, 0.01), [2.0] * 10, drawn, reliable=True)
    assert "none of your 10 known defects" in known.statement
    assert "drawn" not in known.statement


def test_more_than_half_passing_is_warned_of_with_a_better_rate(tmp_path: Path) -> None:
    found = document(tmp_path, make_calibration(GOOD, 0.01), [0.96] * 6 + [2.0] * 4)
    assert "6 of 10 known defects pass (escape, missed defects), more than half" in warning(found)
    assert "with 5 % of good parts rejected, none of 10 would pass" in warning(found)
    assert "line-monitor calibrate disc --overkill 0.05" in warning(found)
    half = document(tmp_path, make_calibration(GOOD, 0.01), [0.96] * 5 + [2.0] * 5)
    assert warning(half) == ""


@pytest.mark.parametrize(
    ("images", "advice"), [(40, "train with more good images: 40"), (500, "larger --size")]
)
def test_where_no_rate_helps_another_training_is_advised(tmp_path: Path, images: int, advice: str) -> None:
    training = trained(images=images)
    found = document(tmp_path, make_calibration(GOOD, 0.01), [0.1] * 10, training=training)
    assert advice in warning(found)


def test_a_threshold_above_every_good_part_is_the_first_thing_to_give_up(tmp_path: Path) -> None:
    estimate = make_calibration(GOOD[:20], 0.01, extrapolate=True)
    between = (estimate.threshold + max(estimate.scores)) / 2
    found = document(tmp_path, estimate, [between] * 10)
    own = own_point(found)
    assert own is not None
    assert own.threshold == estimate.threshold
    assert "without --extrapolate" in warning(found) or "--overkill" in warning(found)
    thresholds = [point.threshold for point in found.operating_points]
    assert thresholds == sorted(thresholds, reverse=True), "a higher rate never has a higher threshold"


def test_images_that_selected_the_student_guarantee_nothing_at_any_point(tmp_path: Path) -> None:
    chosen = without_guarantee(make_calibration(GOOD, 0.01))
    found = document(tmp_path, chosen, [0.96], training=trained(as_paper=True))
    assert all(point.guarantee is None and point.confident is None for point in found.operating_points)
    assert found.statement.startswith("At this threshold, whose rate of rejected good parts")
    assert found.statement.endswith(
        "; at 0.95, none (0 to 98 %): line-monitor calibrate disc --overkill 0.05."
    )
    assert any("no rate is guaranteed" in line for line in explain_points(found))


def test_points_keep_the_overkills_that_people_labelled(tmp_path: Path) -> None:
    after = add_overkills(make_calibration(GOOD[:99], 0.01), [3.0])
    found = document(tmp_path, after, [2.0] * 10)
    own = own_point(found)
    assert own is not None
    assert own.threshold == after.threshold
    assert own.guarantee == 0.01


def test_a_recipe_of_an_earlier_version_keeps_its_threshold_and_gets_points(tmp_path: Path) -> None:
    old = Calibration(threshold=0.7, overkill=0.01, guaranteed=False, scores=(0.3, 0.5, 0.4))
    found = document(tmp_path, old, [0.6] * 10)
    assert found.calibration["torch-f32"] == old
    own = own_point(found)
    assert own is not None
    assert own.threshold == 0.7
    assert own.guarantee == pytest.approx(0.25)
    assert own.passed == 10


def test_lines_for_a_person_say_both_guarantees_the_table_and_the_warning(tmp_path: Path) -> None:
    found = document(tmp_path, make_calibration(GOOD[:60], 0.01), [0.1] * 6 + [2.0] * 4)
    lines = list(explain_points(found))
    assert any(line.split()[:3] == ["0.5", "%", "0.2"] and "at most 1.7 %" in line for line in lines)
    assert any("at most 1.7 %" in line and "below 4.9 %" in line and "39" in line.split() for line in lines)
    assert found.statement in lines
    assert lines[-1].startswith("WARNING: 6 of 10 known defects pass")
    assert list(explain_points(draft_recipe(tmp_path / "bare").document)) == []
