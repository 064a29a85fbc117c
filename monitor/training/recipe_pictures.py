"""Pictures beside a recipe for the person who answers for it: its oddest good images, and what it decides.

It knows nothing of how they are drawn. The recipe is committed before, so a picture that can't be written is
only a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from drivers.image_file import Image
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.system.atomic_file import write_whole
from monitor.training.decision_picture import PICTURE, draw_decisions
from monitor.training.known_defects import ScoredDefects
from monitor.training.oddest_images import (
    COUNT,
    SHEET,
    draw_sheet,
    explain_lone,
    explain_oddest,
    find_oddest,
    lone_ratio,
    shrink,
)
from monitor.training.readable_images import read_images
from monitor.training.training_request import Say


def show_oddest(
    recipe: RecipeVersion, files: Sequence[Path], fix: str, say: Say, *, caution: str = ""
) -> None:
    """Prints the good images that scored highest, and writes their contact sheet.

    `files` are those of the calibration's scores, in the same order. `fix` says what to do about a bad part
    among them, and `caution` what not to do. Nothing is shown where their numbers differ: a file was not
    readable any more, and which score belongs to which file is not known. An earlier sheet is then removed.
    """
    own = recipe.document.calibration[REFERENCE]
    if len(files) != len(own.scores):
        (recipe.folder / SHEET).unlink(missing_ok=True)
        return
    scores = dict(zip(files, own.scores, strict=True))
    chosen = [files[position] for position in find_oddest(own.scores)]
    # Each image is made small at once: eight large ones would take gigabytes.
    pictures = {file: shrink(image) for file, _, image in read_images(chosen, say)}
    shown = [file for file in chosen if file in pictures]
    if not shown:
        return
    found = [scores[file] for file in shown]
    save_picture(
        recipe.folder / SHEET, draw_sheet([pictures[file] for file in shown], found, own.threshold), say
    )
    for line in explain_oddest(shown, found, recipe.folder / SHEET, f"{fix}; {caution}" if caution else fix):
        say(line)
    if (ratio := lone_ratio(own)) is not None:
        say(explain_lone(chosen[0], ratio, own.threshold, fix))


def save_decisions(recipe: RecipeVersion, defects: ScoredDefects | None, say: Say) -> None:
    """Writes the picture of what the recipe's thresholds decide.

    `defects` are the known defects that were scored now; None: the recorded scores alone are shown.
    """
    document = recipe.document
    own = document.calibration[REFERENCE]
    known = document.defect_scores.known if document.defect_scores else ()
    scores = dict(defects.lowest(COUNT)) if defects is not None else {}
    lowest = [(shrink(image), scores[file]) for file, _, image in read_images(scores, say)]
    picture = draw_decisions(
        own.scores,
        known,
        document.operating_points,
        own.threshold,
        lowest,
        f"{recipe.name} {recipe.sha[:12]}",
    )
    save_picture(recipe.folder / PICTURE, picture, say)


def save_picture(file: Path, picture: Image, say: Say) -> None:
    """Writes a picture as PNG, or says why it can't be written."""
    try:
        write_whole(file, cv2.imencode(".png", picture)[1].tobytes())
    except OSError as error:
        say(f"warning: {file}: can't be written ({error.strerror or error})")
