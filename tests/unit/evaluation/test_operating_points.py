"""Each of the recipe's thresholds gets its measured overkill and escape, with exact intervals."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from monitor.evaluation.operating_points import measure_points
from monitor.evaluation.results import Evaluation, Figures, Share, points_table
from monitor.model.recipe_json import OperatingPoint


@dataclass(frozen=True)
class Image:
    score: float

    def passes(self, threshold: float) -> bool:
        return self.score <= threshold


GOOD = [Image(score / 10) for score in range(10)]
DEFECTIVE = {"crack": [Image(0.85), Image(2.0)], "stain": [Image(0.1)]}
POINTS = (
    OperatingPoint(overkill=0.01, threshold=0.9, guarantee=0.02),
    OperatingPoint(overkill=0.2, threshold=0.7),
)


def test_shares_are_counted_at_each_threshold_and_for_each_type() -> None:
    low, high = measure_points(POINTS, GOOD, DEFECTIVE)
    assert (low.requested, low.threshold, low.guarantee) == (0.01, 0.9, 0.02)
    assert low.overkill == Share(0.0, 0.0, pytest.approx(0.3085, abs=5e-5))
    assert low.escape is not None
    assert low.escape.value == pytest.approx(2 / 3)
    assert {name: share.value for name, share in low.escape_per_type.items()} == {"crack": 0.5, "stain": 1.0}
    assert high.overkill is not None
    assert high.overkill.value == pytest.approx(0.2)
    assert {name: share.value for name, share in high.escape_per_type.items()} == {"crack": 0.0, "stain": 1.0}


def test_json_has_a_share_with_the_ends_of_its_interval() -> None:
    (point,) = measure_points(POINTS[:1], GOOD, DEFECTIVE)
    content = point.as_dict()
    assert content["requested"] == 0.01
    assert content["overkill"] == 0.0
    assert content["overkill_high"] == pytest.approx(0.3085, abs=5e-5)
    assert {"threshold", "guarantee", "overkill_low", "escape", "escape_low", "escape_high"} <= set(content)
    assert content["per_type"]["stain"] == {
        "escape": 1.0,
        "escape_low": pytest.approx(0.025),
        "escape_high": 1.0,
    }


def test_without_images_of_a_kind_its_share_is_not_known() -> None:
    (without_good,) = measure_points(POINTS[:1], [], DEFECTIVE)
    assert without_good.overkill is None
    assert without_good.as_dict()["overkill_low"] is None
    (without_defects,) = measure_points(POINTS[:1], GOOD, {})
    assert (without_defects.escape, without_defects.escape_per_type) == (None, {})


def test_the_table_says_overkill_and_escape_in_plain_words() -> None:
    table = points_table(measure_points(POINTS, GOOD, {"crack": DEFECTIVE["crack"]}))
    title, head, first, second = table.splitlines()
    assert "95 %" in title
    assert "overkill (false reject)" in head
    assert "escape (missed defect)" in head
    assert first.split()[:2] == ["1", "%"]
    assert "at most 2 %" in first
    assert "0 % (0 to 30.8 %)" in first
    assert "50 % (1.26 to 98.7 %)" in first
    assert "20 % (2.52 to 55.6 %)" in second
    assert "at most" not in second


def test_a_recipe_without_points_has_an_empty_list_and_no_table() -> None:
    figures = Figures(1, None, None, None, 0.0, None)
    found = Evaluation("r", "", 0.5, figures, {}, 1.0)
    assert found.as_dict()["operating_points"] == []
    assert "overkill (false reject)" not in found.table()
