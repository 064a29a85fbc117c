"""The oddest good images: those that scored highest while they calibrated, as lines and as a contact sheet.

It does not know how a threshold is computed, only whether one part alone sets it. One bad part among the good
images raises the threshold for all: a person must look at the images that scored highest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from drivers.image_file import Image
from monitor.model.recipe_json import Calibration
from monitor.system.printable import clean_line

SHEET = "oddest.png"
"""The contact sheet, a file beside `recipe.json`."""
COUNT = 8
"""How many images are shown."""
LONE, _FEWEST_SCORES = 2.0, 20
"""From this ratio to the next score on, the highest one stands alone, where so many scores calibrated. In
nine of twelve recipes of photographs the ratio was 1.0 to 1.6. In three the image showed a defect that nobody
had noticed: a hole in a tile (2.8) and a red scrap on paper (1.9 and, with another odd image, 1.4; all three
2.7 to 4.3 before the memory had a teacher of its own). Simulated good parts whose scores are log-normal with
the usual spread reach it in 1.3 % of recipes of 20 scores and in 0.3 % of 99."""
_ODDEST = re.compile(r" *\d+  score (\S+)  (.+)")
_COLUMNS = 4
_SIDE = 256
"""Pixels of the longer side of an image on the sheet."""
_CAPTION = 28
"""Pixels of the caption's height."""


def find_oddest(scores: Sequence[float], count: int = COUNT) -> list[int]:
    """The positions of the `count` highest scores, the highest first."""
    return sorted(range(len(scores)), key=lambda position: -scores[position])[:count]


def explain_oddest(files: Sequence[Path], scores: Sequence[float], sheet: Path, fix: str) -> Iterator[str]:
    """Lines for a person: what to do about a bad part, then the files with their scores as on the sheet."""
    if not files:
        return
    yield f"the oddest good images ({sheet} shows them): a bad part among them raises the threshold: {fix}"
    for number, (file, score) in enumerate(zip(files, scores, strict=True), start=1):
        yield f"{number:3d}  score {score:.4g}  {clean_line(str(file))}"


def lone_ratio(calibration: Calibration) -> float | None:
    """How many times as high as the next score the highest one is, where it alone sets the threshold and
    stands alone; else None.

    The next score is that of another part, or an added overkill: both would set the threshold without it.
    """
    scores, parts = calibration.scores, calibration.parts or range(len(calibration.scores))
    highest = find_oddest(scores, count=1)
    if len(scores) < _FEWEST_SCORES or scores[highest[0]] != calibration.threshold:
        return None
    own = parts[highest[0]]
    others = [score for score, part in zip(scores, parts, strict=True) if part != own]
    following = max([*others, *calibration.added], default=0.0)
    return calibration.threshold / following if calibration.threshold >= LONE * following > 0 else None


def explain_lone(file: Path, ratio: float, threshold: float, fix: str) -> str:
    """One line for a person about the image that alone sets the threshold; `fix` is for a bad part."""
    return (
        f"WARNING: one part alone sets the threshold: {clean_line(str(file))} scored {ratio:.1f} times as "
        "high as the next good part. Without it the threshold would be about "
        f"{threshold / ratio:.4g}, and fewer defects would pass (escape). Look at it. If it is bad, {fix}. "
        "If it is good, collect more good parts like it"
    )


def read_oddest(line: str) -> tuple[str, float] | None:
    """The file that a line of `explain_oddest` names, with its score; None for other lines."""
    match = _ODDEST.fullmatch(line)
    return (match[2], float(match[1])) if match else None


def draw_sheet(pictures: Sequence[Image], scores: Sequence[float], threshold: float) -> Image:
    """The contact sheet, uint8 (H, W, 3) BGR: each picture with its number, its score in thresholds, and the
    verdict that follows.

    Pictures are uint8 (H, W, 3) BGR or (H, W), at least one.
    """
    rows = math.ceil(len(pictures) / _COLUMNS)
    columns = min(_COLUMNS, len(pictures))
    sheet = np.full((rows * (_SIDE + _CAPTION), columns * _SIDE, 3), 32, np.uint8)
    for place, (picture, score) in enumerate(zip(pictures, scores, strict=True)):
        top, left = place // _COLUMNS * (_SIDE + _CAPTION), place % _COLUMNS * _SIDE
        shown = shrink(picture)
        sheet[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
        verdict = "passes" if score <= threshold else "rejected"
        cv2.putText(
            sheet,
            f"{place + 1}: {score / threshold:.2f} thresholds, {verdict}",
            (left + 6, top + _SIDE + 19),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (230, 230, 230),
            1,
            cv2.LINE_AA,
        )
    return sheet


def shrink(picture: Image) -> Image:
    """The picture in colour, uint8 (H, W, 3) BGR, its longer side at `_SIDE` pixels."""
    height, width = picture.shape[:2]
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    colour = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.resize(colour, size, interpolation=cv2.INTER_AREA), np.uint8)
