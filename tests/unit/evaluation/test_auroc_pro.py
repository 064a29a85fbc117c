"""AUROC and PRO are equal to what scikit-learn, SciPy and the definitions give, to 1e-9 or better."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score, roc_curve

from monitor.evaluation.auroc_pro import auroc, per_region_overlap, regions_of

Array = NDArray[np.float64]


def curve_area(negatives: Array, regions: list[Array], limit: float) -> float:
    """The area under the mean overlap over the false-positive rate: trapezoids, cut off at the limit."""
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


@pytest.mark.parametrize("levels", [2, 7, 1_000_000])
def test_auroc_is_scikit_learns_also_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    good = (rng.integers(0, levels, 3000) / levels).astype(np.float32)
    bad = (rng.integers(0, levels, 400) / levels + 0.1 * rng.integers(0, 2, 400)).astype(np.float32)
    labels = np.repeat([0, 1], [len(good), len(bad)])
    assert auroc(good, bad) == pytest.approx(roc_auc_score(labels, np.concatenate([good, bad])), abs=1e-12)


def blobs(seed: int, levels: int, count: int = 6) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps and masks, (count, 24, 24), with defects of several sizes; the maps find some of them."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.standard_normal((count, 24, 24)), (0, 1.5, 1.5)) > 0.25
    maps = rng.integers(0, levels, masks.shape) / levels + 0.4 * masks * rng.random((count, 1, 1))
    return maps.astype(np.float32), masks


def overlap_by_scikit_learn(maps: NDArray[np.float32], masks: NDArray[np.bool_], limit: float) -> float:
    """PRO by other libraries.

    SciPy finds the regions, scikit-learn gives a ROC curve for each against all defect-free pixels, and the
    area under the mean of these curves is taken up to the limit.
    """
    negatives = maps[~masks]
    areas = []
    for anomaly, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for label in range(1, count + 1):
            region = anomaly[labels == label]
            truth = np.repeat([0, 1], [len(negatives), len(region)])
            rates, found, _ = roc_curve(truth, np.concatenate([negatives, region]), drop_intermediate=False)
            kept = rates < limit
            # The curve is interpolated at the limit; a vertical rise there has no width and adds nothing.
            after = int(kept.sum())
            share = (limit - rates[after - 1]) / (rates[after] - rates[after - 1])
            at_limit = found[after - 1] + share * (found[after] - found[after - 1])
            x, y = np.append(rates[kept], limit), np.append(found[kept], at_limit)
            areas.append(((y[1:] + y[:-1]) * np.diff(x)).sum() / 2 / limit)
    return float(np.mean(areas))


def overlap(maps: NDArray[np.float32], masks: NDArray[np.bool_], limit: float = 0.3) -> float:
    regions = [r for anomaly, mask in zip(maps, masks, strict=True) for r in regions_of(anomaly, mask)]
    return per_region_overlap(maps[~masks], regions, limit)


@pytest.mark.parametrize("levels", [3, 20, 1_000_000])
@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_pro_is_the_mean_of_scikit_learns_curves_over_scipys_regions(levels: int, limit: float) -> None:
    maps, masks = blobs(levels, levels)
    assert overlap(maps, masks, limit) == pytest.approx(overlap_by_scikit_learn(maps, masks, limit), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([2, 9, 1000]))
def test_only_the_order_of_values_counts_and_the_order_of_images_does_not(seed: int, levels: int) -> None:
    maps, masks = blobs(seed, levels, count=3)
    order = np.random.default_rng(seed).permutation(len(maps))
    stretched = np.exp(maps.astype(np.float64)) * 1e3
    assert overlap(maps[order], masks[order]) == pytest.approx(overlap(maps, masks), abs=1e-12)
    assert overlap(stretched, masks) == pytest.approx(overlap(maps, masks), abs=1e-12)
    assert auroc(stretched[~masks], stretched[masks]) == pytest.approx(
        auroc(maps[~masks], maps[masks]), abs=1e-12
    )


def test_a_perfect_map_has_1_and_a_constant_one_what_chance_gives() -> None:
    _, masks = blobs(1, 2)
    perfect, constant = masks.astype(np.float32), np.zeros(masks.shape, np.float32)
    assert (overlap(perfect, masks), auroc(perfect[~masks], perfect[masks])) == (1.0, 1.0)
    assert overlap(constant, masks, 0.3) == pytest.approx(0.15)
    assert auroc(constant[~masks], constant[masks]) == pytest.approx(0.5)
    assert overlap(1 - perfect, masks) == 0.0


def test_ascending_negatives_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(_: Array) -> Array:
        raise AssertionError

    ordered = np.linspace(0, 1, 100)
    monkeypatch.setattr(np, "sort", copied)
    assert auroc(ordered, np.array([2.0])) == 1.0
    with pytest.raises(AssertionError):
        auroc(ordered[::-1], np.array([2.0]))
