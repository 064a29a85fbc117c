"""Known defects are scored by the reference, and never are images that the recipe takes for good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import DefectScores
from monitor.system.progress import SILENT
from monitor.training.known_defects import DefectsError, find_defects, score_defects
from monitor.training.readable_images import file_mark
from tests.real.parts import draft_recipe, part, random_recipe, save

pytestmark = pytest.mark.usefixtures("without_openvino")


def test_each_readable_defect_has_the_reference_s_score_and_drawn_ones_stay(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    drawn = DefectScores(known=(9.0,), drawn=(1.0, 2.0))
    recipe = replace(recipe, document=msgspec.structs.replace(recipe.document, defect_scores=drawn))
    for number in range(2):
        save(tmp_path / f"bad/deep/{number}.png", part(number, defect=True))
    save(tmp_path / "bad/copy.png", part(0, defect=True))
    (tmp_path / "bad/broken.png").write_bytes(b"no image")
    lines: list[str] = []
    found = score_defects(
        recipe,
        find_defects(tmp_path / "bad", (), lines.append),
        device="cpu",
        say=lines.append,
        progress=SILENT,
    )
    scorer = Scorer(recipe, device="cpu", runtime="torch", precision="f32")
    expected = [scorer.score([part(number, defect=True)])[0].score for number in range(2)]
    assert sorted(found.scores.known) == pytest.approx(sorted(expected), rel=1e-4)
    assert found.scores.drawn == (1.0, 2.0)
    assert [score for _, score in found.lowest(8)] == sorted(found.scores.known)
    assert len(found.lowest(1)) == 1
    assert "left out: 1 images that are copies of others" in lines
    assert any("broken.png" in line for line in lines)


def test_folders_without_a_defect_are_refused(tmp_path: Path) -> None:
    recipe = draft_recipe(tmp_path / "r")
    (tmp_path / "bad").mkdir()
    for folder in (tmp_path / "bad", tmp_path / "nowhere"):
        with pytest.raises(DefectsError, match=str(folder)):
            find_defects(folder, (), print)
    (tmp_path / "bad/broken.png").write_bytes(b"no image")
    with pytest.raises(DefectsError, match="no readable image of a bad part"):
        score_defects(recipe, [tmp_path / "bad/broken.png"], device="cpu", say=print, progress=SILENT)


def test_an_image_that_the_recipe_takes_for_good_is_refused_by_name(tmp_path: Path) -> None:
    file = save(tmp_path / "bad/7.png", part(7))
    with pytest.raises(DefectsError, match=r"7\.png: this image trains or calibrates"):
        find_defects(tmp_path / "bad", {file_mark(file)}, print)
