"""Calibration sets a recipe's threshold from images of good parts, and changes nothing else."""

from __future__ import annotations

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
from monitor.system.progress import SILENT
from monitor.teachers.architectures import LEVELS, build_trunk, fill
from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
from monitor.training.image_scores import score_images
from monitor.training.thresholds import CalibrationError, rank
from tests.real.parts import good_parts, part, random_recipe, save


def test_calibrating_a_student_that_sees_nothing_keeps_below_the_ceiling_and_warns(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    blind = {name: np.zeros_like(array) for name, array in recipe.student.items()}
    teacher = build_trunk("squeezenet1_1").eval()
    fill(teacher, {name: torch.from_numpy(array.copy()) for name, array in recipe.teacher.items()})
    with torch.inference_mode():
        levels = teacher(torch.from_numpy(np.stack([prepare(part(n), recipe.size) for n in range(3)])))
    # For every image this student's only channel above 0 is the one in which the teacher's values are lowest.
    for level, name in zip(levels, LEVELS["squeezenet1_1"], strict=True):
        halves = [blind[f"{name}.expand{kernel}.bias"] for kernel in ("1x1", "3x3")]
        half, channel = divmod(int(level.amax(dim=(0, 2, 3)).argmin()), len(halves[0]))
        halves[half][channel] = 1
    document = msgspec.structs.replace(recipe.document, student=weights_file("student", blind))
    replace(recipe, document=document, student=blind).commit()
    lines: list[str] = []
    after = calibrate_recipe(
        CalibrationRequest(recipe=recipe.folder, images=good_parts(tmp_path / "good", 3), device="cpu"),
        say=lines.append,
    )
    for calibration in after.document.calibration.values():
        assert max(calibration.scores) <= calibration.threshold
        assert calibration.threshold == pytest.approx(8)
    assert sum(line.startswith("warning: the threshold") for line in lines) == 1


def test_calibrating_changes_the_threshold_and_nothing_else(tmp_path: Path) -> None:
    before = random_recipe(tmp_path / "r")
    lines: list[str] = []
    after = calibrate_recipe(
        CalibrationRequest(recipe=before.folder, images=good_parts(tmp_path / "good", 12), overkill=0.1),
        say=lines.append,
    )
    loaded = RecipeVersion.load(before.folder)
    assert loaded.sha == after.sha != before.sha
    stated = msgspec.structs.replace(
        loaded.document, calibration=before.document.calibration, operating_points=(), statement=""
    )
    assert stated == before.document, "only the threshold and what is stated of it have changed"
    calibration = loaded.document.calibration["torch-f32"]
    scores = [r.score for r in Scorer(loaded, device="cpu").score([part(n) for n in range(12)])]
    assert sorted(calibration.scores) == pytest.approx(sorted(scores), rel=1e-4)
    assert calibration.guaranteed
    assert calibration.threshold == sorted(calibration.scores)[rank(12, 0.1) - 1]
    assert sum(score > calibration.threshold for score in calibration.scores) <= 1
    assert any("torch-f32: threshold" in line for line in lines)


def test_bad_files_are_skipped_and_no_files_are_refused(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    good = good_parts(tmp_path / "good", 2)
    (good / "broken.png").write_bytes(b"no image")
    os.mkfifo(good / "pipe.png")
    lines: list[str] = []
    calibrated_again = calibrate_recipe(
        CalibrationRequest(recipe=recipe, images=good, overkill=0.01), say=lines.append
    )
    assert len(calibrated_again.document.calibration["torch-f32"].scores) == 2
    for name in ("broken.png", "pipe.png"):
        assert sum(name in line for line in lines) == 1
    for folder in (tmp_path / "nowhere", save(tmp_path / "empty" / "x.png", part(1)).parent / "deeper"):
        with pytest.raises(CalibrationError, match=str(folder)):
            calibrate_recipe(CalibrationRequest(recipe=recipe, images=folder, overkill=0.01), say=print)
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        calibrate_recipe(CalibrationRequest(recipe=recipe, images=good, overkill=1.5), say=print)


def test_large_images_do_not_wait_for_each_other_in_memory(tmp_path: Path) -> None:
    """Eight images of 6000x4500 pixels take 648 MB."""
    large = np.full((4500, 6000, 3), 90, np.uint8)
    first = save(tmp_path / "0.png", large)
    for number in range(1, 4):
        (tmp_path / f"{number}.png").hardlink_to(first)
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    files = sorted(tmp_path.glob("*.png"))
    score_images(scorer, files[:1], print, SILENT, "warm up")
    tracemalloc.start()
    scores = score_images(scorer, files, print, SILENT, "calibrate")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scores) == 4
    assert large.nbytes < peak < 2.5 * large.nbytes


def test_small_images_are_scored_together(tmp_path: Path) -> None:
    batches: list[int] = []

    class Counted(Scorer):
        def score(self, images: Sequence[Image]) -> list[ScoreResult]:
            batches.append(len(images))
            return super().score(images)

    scorer = Counted(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    files = sorted(good_parts(tmp_path / "good", 10).iterdir())
    assert len(score_images(scorer, files, print, SILENT, "calibrate")) == 10
    assert batches == [8, 2]
