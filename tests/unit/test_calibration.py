"""The threshold keeps its promise: how many good parts are rejected."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from monitor.calibration import CalibrationError, calibrate_recipe, calibrated, explain, needed, rank
from monitor.recipe import Recipe
from tests.real.parts import good_parts, part, random_recipe, save


@pytest.mark.parametrize(
    ("count", "overkill", "expected"),
    [
        (99, 0.01, 99),
        (98, 0.01, 99),
        (199, 0.01, 198),
        (9, 0.1, 9),
        (19, 0.05, 19),
        (100, 0.5, 51),
        (1, 0.01, 2),
    ],
)
def test_the_rank_is_the_conformal_one(count: int, overkill: float, expected: int) -> None:
    assert rank(count, overkill) == expected


@pytest.mark.parametrize("overkill", [0.001, 0.01, 0.02, 0.05, 0.1, 1 / 3, 0.5])
def test_the_guarantee_begins_where_it_says(overkill: float) -> None:
    enough = needed(overkill)
    assert rank(enough, overkill) <= enough
    assert rank(enough - 1, overkill) > enough - 1


@pytest.mark.parametrize(("count", "overkill"), [(99, 0.01), (60, 0.05), (200, 0.02)])
def test_good_parts_are_rejected_at_the_promised_rate_whatever_their_scores(
    count: int, overkill: float
) -> None:
    """On average over calibration sets, for a distribution the code knows nothing of."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(3000):
        threshold = calibrated((rng.pareto(2, count) + 0.1).tolist(), overkill).threshold
        rates.append((threshold - 0.1 + 1) ** -2.0)  # the chance that one more is larger
    error = np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) <= overkill + 3 * error
    assert np.mean(rates) >= overkill - 1 / (count + 1) - 3 * error


@pytest.mark.parametrize("overkill", [0.9, 0.999999, 1 - 1e-12, math.nextafter(1, 0)])
def test_whoever_bears_any_overkill_gets_the_lowest_score(overkill: float) -> None:
    assert calibrated([3.0, 1.0, 2.0, 4.0], overkill).threshold == 1.0


def test_a_score_equal_to_the_threshold_is_a_calibration_score_and_passes() -> None:
    scores = [0.1 * i for i in range(1, 100)]
    found = calibrated(scores, 0.01)
    assert found.guaranteed
    assert found.threshold == max(scores)


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("count", [1, 2, 8, 16, 40, 98])
def test_with_few_images_the_estimate_is_near_what_was_asked_for(count: int, spread: float) -> None:
    """Not the tenfold overkill of the largest score alone, nor a threshold that lets every defect escape."""
    rng = np.random.default_rng(1)
    rates, over_best = [], []
    best = math.exp(2.326 * spread)  # exceeded by one good part in a hundred
    for _ in range(300):
        found = calibrated(np.exp(rng.normal(0, spread, count)).tolist(), 0.01)
        assert not found.guaranteed
        rates.append(0.5 * math.erfc(math.log(found.threshold) / spread / math.sqrt(2)))
        over_best.append(found.threshold / best)
    assert np.mean(rates) < (0.03 if count > 4 else 0.2)
    assert np.median(over_best) < 2


def test_the_margin_is_gone_where_the_guarantee_begins() -> None:
    scores = np.exp(np.random.default_rng(2).normal(0, 0.4, 98))
    assert calibrated(scores.tolist(), 0.01).threshold == pytest.approx(scores.max(), rel=0.02)


def test_how_many_more_images_are_needed_is_said() -> None:
    assert "83 more good images" in explain(calibrated([1.0] * 16, 0.01))
    assert "at most 1 %" in explain(calibrated([1.0] * 99, 0.01))


def test_scores_that_are_no_numbers_are_no_calibration() -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        calibrated([1.0, math.nan], 0.01)
    with pytest.raises(CalibrationError, match="no good images"):
        calibrated([], 0.01)
    assert calibrated([0.0, 0.0], 0.01).threshold > 0


def test_calibrating_changes_the_threshold_and_nothing_else(tmp_path: Path) -> None:
    before = random_recipe(tmp_path / "r")
    heard: list[str] = []
    after = calibrate_recipe(
        recipe=before.folder, images=good_parts(tmp_path / "good", 12), overkill=0.1, say=heard.append
    )
    loaded = Recipe.load(before.folder)
    assert loaded.sha == after.sha != before.sha
    assert loaded.with_calibration({}).document == before.with_calibration({}).document
    calibration = loaded.document.calibration["torch-f32"]
    scores = [r.score for r in loaded.scorer(device="cpu").score([part(n) for n in range(12)])]
    assert sorted(calibration.scores) == pytest.approx(sorted(scores), rel=1e-4)
    assert calibration.guaranteed
    assert calibration.threshold == sorted(calibration.scores)[rank(12, 0.1) - 1]
    assert sum(score > calibration.threshold for score in calibration.scores) <= 1
    assert any("torch-f32: threshold" in line for line in heard)


def test_bad_files_are_skipped_and_no_files_are_refused(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    good = good_parts(tmp_path / "good", 2)
    (good / "broken.png").write_bytes(b"no image")
    os.mkfifo(good / "pipe.png")
    heard: list[str] = []
    calibrated_again = calibrate_recipe(recipe=recipe, images=good, overkill=0.01, say=heard.append)
    assert len(calibrated_again.document.calibration["torch-f32"].scores) == 2
    for name in ("broken.png", "pipe.png"):
        assert sum(name in line for line in heard) == 1
    for folder in (tmp_path / "nowhere", save(tmp_path / "empty" / "x.png", part(1)).parent / "deeper"):
        with pytest.raises(CalibrationError, match=str(folder)):
            calibrate_recipe(recipe=recipe, images=folder, overkill=0.01, say=print)
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        calibrate_recipe(recipe=recipe, images=good, overkill=1.5, say=print)
