"""Calibration sets a recipe's threshold from images of good parts, and changes nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from drivers import image_file
from monitor.images.preprocessing import prepare
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.teachers.architectures import LEVELS, build_trunk, fill, map_ceiling
from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
from monitor.training.known_defects import DefectsError
from monitor.training.parts import PartsError
from monitor.training.readable_images import file_mark
from monitor.training.thresholds import CalibrationError, make_calibration, rank
from tests.real.parts import good_parts, part, random_recipe, save

pytestmark = pytest.mark.usefixtures("without_openvino")


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
    assert loaded.document.calibrated_on == tuple(sorted(map(file_mark, image_file.find(tmp_path / "good"))))
    stated = msgspec.structs.replace(
        loaded.document,
        calibration=before.document.calibration,
        calibrated_on=before.document.calibrated_on,
        operating_points=(),
        statement="",
        first_looks={},
        lineage=None,
    )
    assert stated == before.document, "only the threshold and what is recorded of it have changed"
    calibration = loaded.document.calibration["torch-f32"]
    scores = [r.score for r in Scorer(loaded, device="cpu").score([part(n) for n in range(12)])]
    assert sorted(calibration.scores) == pytest.approx(sorted(scores), rel=1e-4)
    assert calibration.guaranteed
    assert calibration.threshold == sorted(calibration.scores)[rank(12, 0.1) - 1]
    assert sum(score > calibration.threshold for score in calibration.scores) <= 1
    assert any(line.startswith("threshold ") and "(for torch-f32" in line for line in lines)


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


def recorded(folder: Path, *, overkill: float = 0.01, **more: Any) -> RecipeVersion:
    """A recipe that records 40 scores of good parts, from 0.01 to 0.4."""
    scores = [n / 100 for n in range(1, 41)]
    calibration = make_calibration(scores, overkill, map_ceiling("squeezenet1_1"), **more)
    return random_recipe(folder).with_calibration({"torch-f32": calibration}).commit()


def bad_parts(folder: Path, count: int) -> Path:
    for number in range(count):
        save(folder / f"{number}.png", part(number, defect=True))
    return folder


def calibrate(recipe: RecipeVersion, **wish: Any) -> tuple[RecipeVersion, list[str]]:
    lines: list[str] = []
    request = CalibrationRequest(recipe=recipe.folder, device="cpu", **wish)
    return calibrate_recipe(request, say=lines.append), lines


def test_another_rate_needs_no_images(tmp_path: Path) -> None:
    before = recorded(tmp_path / "r")
    after, lines = calibrate(before, overkill=0.1)
    assert after.document.calibration["torch-f32"].threshold == 0.37
    assert after.document.calibration["torch-f32"].guaranteed
    assert [point.overkill for point in after.document.operating_points] == [0.005, 0.01, 0.02, 0.05, 0.1]
    assert "the threshold was 0.4 and is 0.37" in lines
    back, _ = calibrate(after, overkill=0.01)
    assert back.document.calibration == before.document.calibration


def test_a_recipe_of_an_earlier_version_gets_points_and_keeps_its_estimate_where_asked(
    tmp_path: Path,
) -> None:
    estimate = recorded(tmp_path / "r", extrapolate=True).document.calibration["torch-f32"]
    old = msgspec.structs.replace(estimate, guarantee=None, confident=None)
    before = random_recipe(tmp_path / "r").with_calibration({"torch-f32": old}).commit()
    kept, _ = calibrate(before, overkill=0.01, extrapolate=True)
    assert kept.document.calibration["torch-f32"].threshold == pytest.approx(old.threshold)
    assert kept.document.statement
    lowered, _ = calibrate(before, overkill=0.01)
    assert lowered.document.calibration["torch-f32"].threshold == 0.4


def test_known_defects_change_no_threshold_and_are_kept_by_later_calibrations(tmp_path: Path) -> None:
    before = recorded(tmp_path / "r")
    after, lines = calibrate(before, defects=bad_parts(tmp_path / "bad", 3))
    assert after.document.calibration == before.document.calibration
    scores = after.document.defect_scores
    assert scores is not None
    assert len(scores.known) == 3
    assert "of your 3 known defects would pass" in after.document.statement
    assert after.document.statement in lines
    with_pictures = image_file.read(after.folder / "decisions.png")
    again, lines = calibrate(after, images=good_parts(tmp_path / "good", 12), overkill=0.1)
    assert any("oddest.png" in line and "calibrate again" in line for line in lines)
    assert image_file.read(again.folder / "oddest.png").shape[1] == 4 * 256
    assert image_file.read(again.folder / "decisions.png").shape[0] < with_pictures.shape[0]
    assert again.document.defect_scores == scores
    assert "of your 3 known defects would pass" in again.document.statement


def test_a_known_defect_that_calibrates_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    before = recorded(tmp_path / "r")
    good = good_parts(tmp_path / "good", 3)
    save(tmp_path / "bad/same.png", part(1))
    with pytest.raises(
        DefectsError, match=r"same.png: this image trains or calibrates the recipe as a good part"
    ):
        calibrate(before, images=good, defects=tmp_path / "bad")
    assert RecipeVersion.load(before.folder).sha == before.sha


def test_images_of_one_part_count_once(tmp_path: Path) -> None:
    before = recorded(tmp_path / "r", overkill=0.2)
    for number in range(12):
        save(tmp_path / f"good/lot{number // 6}/p{number // 2}-{number % 2}.png", part(number))
    after, lines = calibrate(before, images=tmp_path / "good", part_of=r"p(\d+)-")
    found = after.document.calibration["torch-f32"]
    assert found.parts == tuple(n // 2 for n in range(12))
    assert found.guarantee == 0.2
    assert "12 images show 6 parts: images of one part and near copies count as one part" in lines
    with pytest.raises(PartsError, match=r"lot0/p0-0.png: --part-of 'q' has no match"):
        calibrate(before, images=tmp_path / "good", part_of="q")


def test_too_few_images_set_no_threshold_above_all_of_them_unless_asked(tmp_path: Path) -> None:
    before = recorded(tmp_path / "r")
    good = good_parts(tmp_path / "good", 5)
    plain = calibrate(before, images=good)[0].document.calibration["torch-f32"]
    assert plain.threshold == max(plain.scores)
    assert plain.guarantee == pytest.approx(1 / 6)
    above = calibrate(before, images=good, extrapolate=True)[0].document.calibration["torch-f32"]
    assert above.threshold > max(above.scores)
