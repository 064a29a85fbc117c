"""A person sees which good images scored highest, in the order of the contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers import image_file
from monitor.model.recipe_json import Calibration
from monitor.training.compare import Compare
from monitor.training.oddest_images import (
    SHEET,
    draw_sheet,
    explain_oddest,
    find_oddest,
    lone_ratio,
    read_oddest,
)
from monitor.training.thresholds import add_overkills, make_calibration
from tests.real.parts import good_parts, part, save
from tests.real.small_training import train


def test_the_highest_scores_come_first() -> None:
    assert find_oddest([0.2, 0.9, 0.1, 0.5], count=3) == [1, 3, 0]


def test_lines_name_the_files_and_escape_what_a_terminal_would_obey(tmp_path: Path) -> None:
    lines = list(explain_oddest([tmp_path / "a\x1b[2J.png"], [1.25], tmp_path / SHEET, "take it out"))
    assert SHEET in lines[0]
    assert "1.25" in lines[1]
    assert "\x1b" not in lines[1]


def test_a_program_reads_the_files_out_of_the_lines(tmp_path: Path) -> None:
    files = [tmp_path / "a b.png", tmp_path / "c.png"]
    lines = list(explain_oddest(files, [1.25, 0.0001], tmp_path / SHEET, "take it out"))
    assert [read_oddest(line) for line in lines] == [None, (str(files[0]), 1.25), (str(files[1]), 0.0001)]


LOW = (0.5,) * 28


@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        pytest.param(make_calibration([*LOW, 1.0, 4.0], 0.01), 4.0, id="it sets the threshold"),
        pytest.param(make_calibration([*LOW, 2.1, 4.0], 0.01), None, id="the next one is near"),
        pytest.param(make_calibration([*LOW, 1.0, 4.0], 0.1), None, id="the threshold lies below it"),
        pytest.param(
            make_calibration([*LOW, 1.0, 4.0], 0.01, extrapolate=True), None, id="an estimate above it"
        ),
        pytest.param(make_calibration([1.0, 4.0], 0.01), None, id="few scores"),
        pytest.param(make_calibration([*[0.0] * 29, 4.0], 0.01), None, id="the next one is 0"),
        pytest.param(
            make_calibration([*LOW, 3.9, 4.0], 0.01, parts=[*range(28), 28, 28]),
            8.0,
            id="two images of the part",
        ),
        pytest.param(
            add_overkills(make_calibration([*LOW, 1.0, 4.0], 0.01), [3.5]),
            None,
            id="an added overkill is near",
        ),
    ],
)
def test_a_part_that_alone_sets_the_threshold_is_told_from_others(
    calibration: Calibration, expected: float | None
) -> None:
    assert lone_ratio(calibration) == expected


def test_the_sheet_shows_every_picture_of_any_shape() -> None:
    pictures = [np.full((40, 80, 3), 200, np.uint8), np.full((80, 20), 90, np.uint8)] * 3
    sheet = draw_sheet(pictures, [0.5] * 6, 1.0)
    assert sheet.shape == (2 * (256 + 28), 4 * 256, 3)
    assert (sheet[5, 5] == 200).all()
    assert (sheet[5, 256 + 5] == 90).all()


def test_a_bad_part_among_the_good_ones_is_first_on_the_list(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 30)
    save(folder / "bad.png", part(5, defect=True))
    lines: list[str] = []
    recipe = train(tmp_path, folder, lines.append, compare=Compare.MEMORY)
    first = lines[next(i for i, line in enumerate(lines) if SHEET in line) + 1]
    assert "bad.png" in first
    (warning,) = (line for line in lines if line.startswith("WARNING: one part alone"))
    assert "bad.png" in warning
    assert "--leave-out" in warning
    assert image_file.read(recipe.folder / SHEET).shape[2] == 3


def test_good_parts_alone_warn_of_none(tmp_path: Path) -> None:
    lines: list[str] = []
    train(tmp_path, good_parts(tmp_path / "good", 30), lines.append, compare=Compare.MEMORY)
    assert not any("one part alone" in line for line in lines)
