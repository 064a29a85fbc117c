"""The figures are the ones papers mean, to the last digit, and on data sets as people have them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.evaluation import EvaluationError, auroc, evaluate_recipe, per_region_overlap, regions_of
from tests.real.parts import part, random_recipe, save

Array = NDArray[np.float64]


def curve_area(negatives: Array, regions: list[Array], limit: float) -> float:
    """Mean overlap over false-positive rate, threshold by threshold, trapezoids cut off at the limit."""
    thresholds = np.unique(np.concatenate([negatives, *regions]))[::-1]
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        overlap = float(np.mean([(region >= threshold).mean() for region in regions]))
        points.append((float((negatives >= threshold).mean()), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        end = min(x1, limit)
        if end > x0:
            area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area / limit


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_auroc_counts_pairs_and_halves_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    bad, good = rng.integers(0, levels, 70) / levels + 0.1, rng.integers(0, levels, 90) / levels
    pairs = np.mean((bad[:, None] > good) + 0.5 * (bad[:, None] == good))
    assert auroc(good, bad) == pytest.approx(pairs, abs=1e-12)
    assert auroc(good, bad) == pytest.approx(curve_area(good, [bad], 1.0), abs=1e-12)


@pytest.mark.parametrize("levels", [2, 5, 40, 10_000])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_pro_is_the_area_under_the_curve_up_to_the_limit(levels: int, limit: float) -> None:
    rng = np.random.default_rng(levels)
    negatives = rng.integers(0, levels, 200) / levels
    regions = [rng.integers(0, levels, count) / levels + rng.random() / 2 for count in (1, 5, 30)]
    assert per_region_overlap(negatives, regions, limit) == pytest.approx(
        curve_area(negatives, regions, limit), abs=1e-12
    )


def test_a_small_region_counts_as_much_as_a_large_one() -> None:
    negatives = np.linspace(0, 1, 1000)
    missed, found = np.zeros(1000), np.full(4, 2.0)
    assert per_region_overlap(negatives, [missed, found]) == pytest.approx(0.5)


def test_regions_touch_at_corners() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], np.bool_)
    found = regions_of(np.arange(12, dtype=np.float32).reshape(3, 4), mask)
    assert sorted(sorted(region.tolist()) for region in found) == [[0, 5], [3], [11]]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "disc"
    for number in range(4):
        save(root / "test/good" / f"{number}.png", part(number))
    mask = np.zeros((80, 80), np.uint8)
    mask[30:50, 30:50] = 255
    for number in range(3):
        save(root / "test/scratch" / f"{number:03d}.png", part(50 + number, defect=True))
        save(root / "ground_truth/scratch" / f"{number:03d}_mask.png", mask)
    save(root / "test/stain" / "x.jpg", part(70, defect=True))
    save(root / "ground_truth/stain" / "x.png", mask)
    return root


def test_a_data_set_is_evaluated_by_type(tmp_path: Path, dataset: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    found = evaluate_recipe(recipe=recipe.folder, dataset=dataset, say=print)
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said["images"] == 8
    assert set(said["per_type"]) == {"good", "scratch", "stain"}
    assert said["per_type"]["scratch"]["images"] == 7
    assert said["recipe_sha"] == recipe.sha
    assert said["ms_per_image"] > 0
    scorer = recipe.scorer(device="cpu")
    scores = {
        kind: np.array([r.score for r in scorer.score(shown)])
        for kind, shown in {
            "good": [part(number) for number in range(4)],
            "scratch": [part(50 + number, defect=True) for number in range(3)],
        }.items()
    }
    assert said["per_type"]["scratch"]["image_auroc"] == auroc(scores["good"], scores["scratch"])
    assert said["overkill"] == float((scores["good"] > scorer.threshold).mean())
    assert said["per_type"]["scratch"]["escape"] == float((scores["scratch"] <= scorer.threshold).mean())
    assert 0 <= said["pro"] <= 1
    assert 0 <= said["pixel_auroc"] <= 1
    assert "stain" in found.table()


def test_images_without_masks_are_named_and_count_for_the_rest(tmp_path: Path, dataset: Path) -> None:
    for mask in (dataset / "ground_truth/scratch").iterdir():
        mask.unlink()
    (dataset / "test/scratch/broken.png").write_text("no image")
    heard: list[str] = []
    found = evaluate_recipe(recipe=random_recipe(tmp_path / "r").folder, dataset=dataset, say=heard.append)
    assert sum("no mask" in line for line in heard) == 3
    assert sum("broken.png" in line for line in heard) == 1
    assert found.per_type["scratch"].pro is None
    assert found.per_type["scratch"].image_auroc is not None
    assert found.per_type["stain"].pro is not None


def test_what_is_no_data_set_is_refused_in_one_line(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    with pytest.raises(EvaluationError, match="test/good, test/<type>"):
        evaluate_recipe(recipe=recipe, dataset=tmp_path / "nowhere", say=print)
    save(tmp_path / "flat/test/x.png", part(1))
    with pytest.raises(EvaluationError, match="no usable images"):
        evaluate_recipe(recipe=recipe, dataset=tmp_path / "flat", say=print)


def test_good_images_alone_give_the_overkill(tmp_path: Path) -> None:
    save(tmp_path / "d/test/good/1.png", part(1))
    found = evaluate_recipe(recipe=random_recipe(tmp_path / "r").folder, dataset=tmp_path / "d", say=print)
    assert found.overall.overkill is not None
    assert (found.overall.image_auroc, found.overall.pro, found.overall.escape) == (None, None, None)
