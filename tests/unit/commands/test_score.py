"""`line-monitor score` prints one line for each image; a bad image does not stop the others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from drivers.image_file import read
from monitor.commands.arguments import CommandError
from monitor.commands.score import list_images, score_files
from monitor.inference.scorer import Scorer
from tests.real.parts import part, random_recipe, save

pytestmark = pytest.mark.usefixtures("without_openvino")


def test_every_image_gets_its_line_in_order(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    files = [save(tmp_path / "a.png", part(1)), tmp_path / "gone.png", save(tmp_path / "b.png", part(2))]
    (tmp_path / "text.png").write_text("no image")
    lines: list[str] = []
    assert not score_files(recipe.folder, [*files, tmp_path / "text.png"], None, lines.append)
    said = [json.loads(line) for line in lines]
    assert [line["image"] for line in said] == [*map(str, files), str(tmp_path / "text.png")]
    assert set(said[0]) == {"image", "score", "threshold", "verdict"}
    assert said[0]["score"] == Scorer(recipe, device="cpu").score([part(1)])[0].score
    assert said[0]["verdict"] == ("reject" if said[0]["score"] > said[0]["threshold"] else "pass")
    assert set(said[1]) == set(said[3]) == {"image", "error"}
    assert score_files(recipe.folder, files[:1], None, lines.append)


def test_a_folder_stands_for_its_images_without_leftovers(tmp_path: Path) -> None:
    parts = [save(tmp_path / "lot" / name, part(1)) for name in ("a.png", "b/c.png")]
    for name in ("._a.png", "Thumbs.db", "a.png.part", "__MACOSX/a.png"):
        (tmp_path / "lot" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "lot" / name).write_bytes(b"no part")
    gone = tmp_path / "gone.png"
    assert list_images([gone, tmp_path / "lot"]) == [gone, *parts]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="empty: no images"):
        list_images([tmp_path / "empty"])


def test_a_name_that_is_no_text_is_scored_like_any_other(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    names = [os.fsdecode(b"part-\xff\xfe.png"), "Pr\u00fcfling.png", os.fsdecode(b"broken-\xff.png")]
    files = [save(tmp_path / name, part(1)) for name in names]
    files[2].write_bytes(b"no image")
    lines: list[str] = []
    assert not score_files(recipe.folder, files, tmp_path / "maps", lines.append)
    said = [json.loads(line.encode("ascii")) for line in lines]
    assert [Path(line["image"]).name for line in said] == [
        "part-\ufffd\ufffd.png",
        "Pr\u00fcfling.png",
        "broken-\ufffd.png",
    ]
    assert "score" in said[0]
    assert read(tmp_path / "maps" / names[0]).shape == part(1).shape
    for line in said:
        json.dumps(line, ensure_ascii=False).encode()


def test_heatmaps_of_images_with_one_name_are_two_files(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    files = [
        save(tmp_path / side / "x.png", part(1, side=50)[:, :, channel])
        for side, channel in (("l", 0), ("r", 1))
    ]
    lines: list[str] = []
    assert score_files(recipe.folder, files, tmp_path / "maps", lines.append)
    drawn = [json.loads(line)["heatmap"] for line in lines]
    assert len(set(drawn)) == 2
    assert read(Path(drawn[1])).shape == (50, 50, 3)


def test_a_folder_that_can_not_be_written_is_an_error_of_that_image(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    (tmp_path / "maps").write_text("a file, no folder")
    lines: list[str] = []
    assert not score_files(
        recipe.folder, [save(tmp_path / "a.png", part(1))], tmp_path / "maps", lines.append
    )
    assert "can't be written" in json.loads(lines[0])["error"]
