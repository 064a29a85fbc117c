"""The scores of known defects: images of real bad parts, by which a recipe states what passes.

It knows nothing of thresholds. Known defects must never train a recipe or set its threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from monitor.errors import LineMonitorError
from monitor.inference.backends import F32, TORCH
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import DefectScores
from monitor.model.recipe_version import RecipeVersion
from monitor.system.printable import clean_line
from monitor.system.progress import Progress
from monitor.training.image_scores import EMPTY, score_files
from monitor.training.readable_images import file_mark, find_image_files, report_copies


class DefectsError(LineMonitorError):
    """The images can't serve as known defects. The message is one line with the fix."""


@dataclass(frozen=True)
class ScoredDefects:
    """A recipe's scores of defects, and the files of the known ones."""

    scores: DefectScores
    files: tuple[Path, ...]
    """The file of each of `scores.known`."""

    def lowest(self, count: int) -> list[tuple[Path, float]]:
        """The known defects with the lowest scores, at most `count`, in ascending order."""
        return sorted(zip(self.files, self.scores.known, strict=True), key=lambda pair: pair[1])[:count]


def list_defects(folder: Path) -> list[Path]:
    """The image files of `folder`, at any depth. Raises DefectsError where there are none."""
    files = find_image_files(folder, DefectsError)
    if not files:
        raise DefectsError(f"{folder}: no images of bad parts: give a folder with 10 or more")
    return files


def find_defects(folder: Path, good: Collection[str], say: Callable[[str], None]) -> list[Path]:
    """The image files of `folder`, at any depth, without copies.

    `good` are the marks of the images that train or calibrate the recipe (`monitor.model.image_mark`). Raises
    DefectsError without files, and for a file with one of these marks.
    """
    files = list_defects(folder)
    marks = {file: file_mark(file) for file in files}
    for file, mark in marks.items():
        if mark in good:
            raise DefectsError(
                f"{clean_line(str(file))}: this image trains or calibrates the recipe as a good part, so it "
                "can't be a known defect: remove it from one of the two folders"
            )
    once = list({mark or str(file): file for file, mark in reversed(marks.items())}.values())[::-1]
    report_copies(len(files) - len(once), say)
    return once


def score_defects(
    recipe: RecipeVersion,
    files: Sequence[Path],
    *,
    device: str,
    say: Callable[[str], None],
    progress: Progress,
) -> ScoredDefects:
    """The recipe's scores of defects with those of the known ones in `files` in place of earlier known ones.

    The reference (torch in float32) scores them, after the recipe's presence gate: a bad part that the gate
    takes for an empty place passes. Raises DefectsError where no file is readable, and RecipeError.
    """
    scorer = Scorer(recipe, device=device, runtime=TORCH, precision=F32)
    scored = score_files(scorer, files, say, progress, "score known defects", gated=True)
    if not scored:
        raise DefectsError(f"{files[0]}: no readable image of a bad part here: give a folder with 10 or more")
    empty = sum(score == EMPTY for _, score in scored) if scorer.presence_gate else 0
    if empty:
        say(f"{empty} known defects pass because the presence gate finds no part on their images")
    before = recipe.document.defect_scores or DefectScores()
    known = tuple(score for _, score in scored)
    return ScoredDefects(msgspec.structs.replace(before, known=known), tuple(file for file, _ in scored))
