"""Images that are left out count against the promised rate, unless a named person calls them bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.model.recipe_json import REFERENCE
from monitor.training.compare import Compare
from monitor.training.left_out_images import leave_images_out
from monitor.training.loop import TrainingError
from monitor.training.thresholds import guarantee_with, images_needed, make_calibration
from tests.real.parts import good_parts
from tests.real.small_training import train

SCORES = [number / 200 for number in range(1, 201)]


def test_left_out_parts_count_as_rejected_ones() -> None:
    plain, without = make_calibration(SCORES, 0.05), make_calibration(SCORES, 0.05, left_out=4)
    assert without.threshold > plain.threshold
    assert without.guarantee == 0.05
    assert guarantee_with(without, 0) <= 0.05 < guarantee_with(plain, 4)


def test_too_many_left_out_make_the_smallest_rate_larger() -> None:
    found = make_calibration(SCORES, 0.01, left_out=3)
    assert not found.guaranteed
    assert found.guarantee == pytest.approx(4 / 204)
    assert found.threshold == 1.0


def test_leaving_one_out_doubles_the_parts_that_a_rate_needs() -> None:
    assert (images_needed(0.01), images_needed(0.01, left_out=1)) == (99, 198)
    assert make_calibration(SCORES[:198], 0.01, left_out=1).guaranteed
    assert not make_calibration(SCORES[:197], 0.01, left_out=1).guaranteed


def test_a_training_records_who_calls_an_image_bad_and_both_rates(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 12)
    lines: list[str] = []
    recipe = train(
        tmp_path,
        folder,
        lines.append,
        compare=Compare.MEMORY,
        leave_out=(folder / "003.png",),
        bad_by="Ada",
        bad_reason="scratched",
    )
    training = recipe.document.training
    assert training is not None
    assert training.images == 11
    (left,) = training.left_out
    assert (left.file, left.bad_by, left.reason) == ("003.png", "Ada", "scratched")
    own = recipe.document.calibration[REFERENCE]
    assert (own.left_out, own.guarantee) == (0, pytest.approx(1 / 11))
    assert training.guarantee_if_good == pytest.approx(2 / 12)
    assert any("left out: 1 image, bad parts, says Ada: scratched" in line for line in lines)


def test_without_a_person_the_promise_is_about_all_good_parts(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 12)
    recipe = train(tmp_path, folder, compare=Compare.MEMORY, leave_out=(folder / "003.png",))
    own = recipe.document.calibration[REFERENCE]
    assert (own.left_out, own.guarantee) == (1, pytest.approx(2 / 12))


@pytest.mark.parametrize(
    ("leave_out", "bad_by", "reason", "message"),
    [
        (("nowhere.png",), "", "", r"nowhere\.png: --leave-out names no image"),
        (("000.png",), "Ada", "", "go together"),
        ((), "Ada", "scratched", "name them with --leave-out"),
    ],
)
def test_a_wrong_request_is_one_clear_line(
    tmp_path: Path, leave_out: tuple[str, ...], bad_by: str, reason: str, message: str
) -> None:
    files = sorted(good_parts(tmp_path, 2).iterdir())
    with pytest.raises(TrainingError, match=message):
        leave_images_out(files, [tmp_path / name for name in leave_out], bad_by, reason)
