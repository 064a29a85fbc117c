"""The threshold keeps its promise: how many good parts are rejected."""

from __future__ import annotations

import math
import os
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from drivers.image_file import Image
from monitor.images.preprocessing import prepare
from monitor.inference.scorer import Scorer, ScoreResult
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.pyramid import anomaly_map
from monitor.system.progress import SILENT
from monitor.teachers.architectures import LEVELS, build_trunk, fill, map_ceiling
from monitor.training.calibration import calibrate_recipe, scores_of
from monitor.training.thresholds import (
    CalibrationError,
    calibrated,
    explain,
    explained,
    needed,
    rank,
    with_overkills,
)
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


@pytest.mark.parametrize("architecture", LEVELS)
def test_no_anomaly_map_is_above_its_ceiling(architecture: str) -> None:
    """Of a teacher's levels beside the ones that are as far from them as any student's can be."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(3)
        seen = build_trunk(architecture).eval()(torch.randn(2, 3, 64, 64))
    signed = any(bool((level < 0).any()) for level in seen)
    # Opposite, or, where no value may be negative, 1 where the teacher sees nothing and 0 elsewhere.
    farthest = [-level if signed else (level == 0).float() for level in seen]
    ceiling = map_ceiling(architecture)
    assert float(anomaly_map(seen, farthest).max()) == pytest.approx(ceiling, rel=0.01)


@pytest.mark.parametrize("ceiling", [8.0, 64.0])
@pytest.mark.parametrize(
    "scores", [[1, 2, 2.5, 3, 3, 4, 5, 6.2], [7.9], [8.0, 8.0], [7.0] * 30, [0.0, 7.99], [4.0, 8.000001]]
)
def test_an_estimate_is_never_above_what_a_map_can_reach(scores: list[float], ceiling: float) -> None:
    threshold = calibrated(scores, 0.01, ceiling).threshold
    assert max(scores) <= threshold <= max(ceiling, *scores)
    before = calibrated(scores[:1], 0.01, ceiling)
    assert with_overkills(before, scores[1:], ceiling).threshold <= max(ceiling, *scores)


def test_an_estimate_below_the_ceiling_leaves_room_for_rejects() -> None:
    assert 6.2 < calibrated([1, 2, 2.5, 3, 3, 4, 5, 6.2], 0.01, 8.0).threshold < 7.5


def test_far_below_the_ceiling_it_changes_nothing() -> None:
    scores = np.exp(np.random.default_rng(4).normal(-5, 0.4, 20)).tolist()
    free = calibrated(scores, 0.01).threshold
    assert calibrated(scores, 0.01, 8.0).threshold == pytest.approx(free, rel=0.01)


@pytest.mark.parametrize("shape", [(2, 2), (5, 2), (2, 6)])
@pytest.mark.parametrize("count", [8, 16, 40])
def test_under_a_ceiling_the_estimate_is_near_what_was_asked_for_too(
    count: int, shape: tuple[float, float]
) -> None:
    """Of scores that end at it: with beta distributions, which the code knows nothing of."""
    rng = np.random.default_rng(5)
    many = 8 * rng.beta(*shape, 100_000)
    rates = [
        np.mean(many > calibrated((8 * rng.beta(*shape, count)).tolist(), 0.01, 8.0).threshold)
        for _ in range(200)
    ]
    assert 0.005 < np.mean(rates) < 0.06


def test_a_threshold_that_hardly_any_defect_reaches_is_said_once() -> None:
    high, low = calibrated([1, 2, 5, 6.2], 0.01, 8.0), calibrated([0.1, 0.2], 0.01, 8.0)
    said = list(explained({"torch-f32": high, "openvino-f32": high}))
    assert len(said) == 3
    assert said[2].startswith(f"warning: the threshold {high.threshold:.4g} is so high")
    assert [line.partition(":")[0] for line in explained({"torch-f32": low})] == ["torch-f32"]


@pytest.mark.parametrize(("quick", "says"), [(0.98, False), (0.5, True)])
def test_eight_bits_that_would_take_longer_than_they_save_are_advised_against(
    quick: float, says: bool
) -> None:
    scores = [0.2 + 0.01 * n for n in range(60)]
    found = dict.fromkeys(("torch-f32", "openvino-f32", "openvino-int8"), calibrated(scores, 0.05))
    # How far the two lie apart in every other pair.
    pairs = [(score * (quick if n % 2 else 1.0), score) for n, score in enumerate(scores)]
    said = [line for line in explained(found, pairs) if line.startswith("int8: ")]
    assert bool(said) is says
    assert not says or 'better not set precision = "int8"' in said[0]


def test_calibrating_a_student_that_sees_nothing_keeps_below_the_ceiling_and_warns(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    blind = {name: np.zeros_like(array) for name, array in recipe.student.items()}
    teacher = build_trunk("squeezenet1_1").eval()
    fill(teacher, {name: torch.from_numpy(array.copy()) for name, array in recipe.teacher.items()})
    with torch.inference_mode():
        seen = teacher(torch.from_numpy(np.stack([prepare(part(n), recipe.size) for n in range(3)])))
    # It answers whatever it is shown with the channel in which the teacher sees least.
    for level, name in zip(seen, LEVELS["squeezenet1_1"], strict=True):
        halves = [blind[f"{name}.expand{kernel}.bias"] for kernel in ("1x1", "3x3")]
        half, channel = divmod(int(level.amax(dim=(0, 2, 3)).argmin()), len(halves[0]))
        halves[half][channel] = 1
    document = msgspec.structs.replace(recipe.document, student=weights_file("student", blind))
    replace(recipe, document=document, student=blind).commit()
    heard: list[str] = []
    after = calibrate_recipe(
        recipe=recipe.folder, images=good_parts(tmp_path / "good", 3), device="cpu", say=heard.append
    )
    for calibration in after.document.calibration.values():
        assert max(calibration.scores) <= calibration.threshold
        assert calibration.threshold == pytest.approx(8)
    assert sum(line.startswith("warning: the threshold") for line in heard) == 1


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
    loaded = RecipeVersion.load(before.folder)
    assert loaded.sha == after.sha != before.sha
    assert loaded.with_calibration({}).document == before.with_calibration({}).document
    calibration = loaded.document.calibration["torch-f32"]
    scores = [r.score for r in Scorer(loaded, device="cpu").score([part(n) for n in range(12)])]
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


def test_large_images_do_not_wait_for_each_other_in_memory(tmp_path: Path) -> None:
    """Eight of 6000x4500 are 648 MB."""
    large = np.full((4500, 6000, 3), 90, np.uint8)
    first = save(tmp_path / "0.png", large)
    for number in range(1, 4):
        (tmp_path / f"{number}.png").hardlink_to(first)
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    files = sorted(tmp_path.glob("*.png"))
    scores_of(scorer, files[:1], print, SILENT, "warm up")
    tracemalloc.start()
    scores = scores_of(scorer, files, print, SILENT, "calibrate")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scores) == 4
    assert large.nbytes < peak < 2.5 * large.nbytes


def test_small_images_are_scored_together(tmp_path: Path) -> None:
    told: list[int] = []

    class Counted(Scorer):
        def score(self, images: Sequence[Image]) -> list[ScoreResult]:
            told.append(len(images))
            return super().score(images)

    scorer = Counted(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    files = sorted(good_parts(tmp_path / "good", 10).iterdir())
    assert len(scores_of(scorer, files, print, SILENT, "calibrate")) == 10
    assert told == [8, 2]
