"""Image files are scored in small batches that fit into memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from drivers.image_file import Image
from monitor.inference.scorer import Scorer, ScoreResult
from monitor.system.progress import SILENT
from monitor.training.image_scores import EMPTY, score_files
from tests.real.parts import good_parts, part, random_recipe, save

pytestmark = pytest.mark.usefixtures("without_openvino")


def test_large_images_do_not_wait_for_each_other_in_memory(tmp_path: Path) -> None:
    """Eight images of 6000x4500 pixels take 648 MB."""
    large = np.full((4500, 6000, 3), 90, np.uint8)
    first = save(tmp_path / "0.png", large)
    for number in range(1, 4):
        (tmp_path / f"{number}.png").hardlink_to(first)
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    files = sorted(tmp_path.glob("*.png"))
    score_files(scorer, files[:1], print, SILENT, "warm up")
    tracemalloc.start()
    scores = score_files(scorer, files, print, SILENT, "calibrate")
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
    assert len(score_files(scorer, files, print, SILENT, "calibrate")) == 10
    assert batches == [8, 2]


def test_an_unreadable_file_moves_no_score_to_another_file(tmp_path: Path) -> None:
    good = good_parts(tmp_path / "good", 3)
    (good / "001.png").write_bytes(b"no image")
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    lines: list[str] = []
    scored = score_files(scorer, sorted(good.iterdir()), lines.append, SILENT, "score")
    assert [file.name for file, _ in scored] == ["000.png", "002.png"]
    # A batch of two may differ from one image in the last bit.
    assert scored[1][1] == pytest.approx(scorer.score([part(2)])[0].score, rel=1e-6)
    assert len(lines) == 1
    assert "001.png" in lines[0]


def test_a_frame_that_the_gate_takes_for_empty_passes_at_every_threshold(tmp_path: Path) -> None:
    class Gated(Scorer):
        def inspect(self, images: Sequence[Image]) -> list[ScoreResult | None]:
            return [None, *self.score(images[1:])]

    scorer = Gated(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    files = sorted(good_parts(tmp_path / "good", 2).iterdir())
    gated = score_files(scorer, files, print, SILENT, "score", gated=True)
    assert gated[0][1] == EMPTY
    assert gated[1][1] > EMPTY
    assert score_files(scorer, files, print, SILENT, "score")[0][1] > EMPTY
