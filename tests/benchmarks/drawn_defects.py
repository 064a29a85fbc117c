"""Whether drawn defects can stand in for real ones: `python -m tests.benchmarks.drawn_defects`.

The folder --recipes is the `--out` of `tests.benchmarks.decisions`, which has trained a recipe for each data
set of --data. Defects of several kinds are drawn on the good images of test/ that may choose settings. The
table has, by set and by the recipe's own threshold, the share of drawn defects that pass beside the share of
real defects that pass, of the images that choose nothing. A drawn share may be stated as a number only if it
is within 0.2 of the real one on every set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from statistics import fmean

import cv2
import numpy as np

from drivers import image_file
from drivers.image_file import Image
from monitor.evaluation.dataset import GOOD
from monitor.images.preprocessing import resize_image
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.training.synthetic_defects import DefectKind, draw_defect
from tests.benchmarks.decisions import (
    RATES,
    Half,
    add_trained_recipes,
    cell_name,
    find_sets,
    processor,
    recipe_folder,
)
from tests.benchmarks.markdown import markdown

CLOSE = 0.2
"""The largest difference of a drawn share from the real one that counts as right."""
Draw = Callable[[Image, Image, np.random.Generator], Image]
"""A copy of the first picture with a defect; the second is another good picture of the same shape."""


def drawn(kind: DefectKind) -> Draw:
    """The drawing of a kind that selects students."""
    return lambda picture, source, rng: draw_defect(kind, picture, source, rng).picture


def missing_piece(picture: Image, source: Image, rng: np.random.Generator) -> Image:
    """A piece of the part is missing: its surroundings are continued over it."""
    top, left, height, width = _rectangle(picture, rng)
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[top : top + height, left : left + width] = 255
    return np.asarray(cv2.inpaint(picture, mask, 3, cv2.INPAINT_TELEA), np.uint8)


def swapped_pieces(picture: Image, source: Image, rng: np.random.Generator) -> Image:
    """Two pieces of the part have changed places."""
    top, left, height, width = _rectangle(picture, rng)
    other_top = int(rng.integers(0, picture.shape[0] - height))
    other_left = int(rng.integers(0, picture.shape[1] - width))
    copy = picture.copy()
    one = picture[top : top + height, left : left + width]
    other = picture[other_top : other_top + height, other_left : other_left + width]
    copy[other_top : other_top + height, other_left : other_left + width] = one
    copy[top : top + height, left : left + width] = other
    return copy


def _rectangle(picture: Image, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a rectangle with 0.5 to 3 % of the picture's area."""
    rows, columns = picture.shape[:2]
    side, stretch = np.sqrt(rng.uniform(0.005, 0.03)), np.exp(rng.uniform(-0.6, 0.6))
    height, width = max(4, int(rows * side * stretch)), max(4, int(columns * side / stretch))
    return int(rng.integers(0, rows - height)), int(rng.integers(0, columns - width)), height, width


KINDS: dict[str, Draw] = {
    **{str(kind): drawn(kind) for kind in DefectKind},
    "missing piece": missing_piece,
    "swapped pieces": swapped_pieces,
}


def drawn_scores(scorer: Scorer, pictures: Sequence[Image], seed: int) -> dict[str, list[float]]:
    """By kind, the scores of one drawn defect on each of `pictures`."""
    rng = np.random.default_rng(seed)
    scores: dict[str, list[float]] = {}
    for number, picture in enumerate(pictures):
        source = pictures[(number + 1) % len(pictures)]
        for kind, draw in KINDS.items():
            (result,) = scorer.score([draw(picture, source, rng)])
            scores.setdefault(kind, []).append(result.score)
    return scores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_trained_recipes(parser)
    options = parser.parse_args()
    rows = [["set", "rate", *KINDS, "all drawn", "real", "difference"]]
    apart = []
    for name in find_sets(options.data):
        cell_of_set = cell_name(name, options.seed)
        cell = json.loads((options.recipes / f"{cell_of_set}.json").read_text())
        recipe = RecipeVersion.load(recipe_folder(options.recipes, cell_of_set))
        files = image_file.find(options.data / name / "test" / GOOD)
        pictures = [
            resize_image(image_file.read(file), recipe.size)
            for position, file in enumerate(files)
            if Half.CHOOSING.has(position)
        ]
        print(f"{name}: {len(pictures)} pictures, {len(KINDS)} kinds", file=sys.stderr, flush=True)
        by_kind = drawn_scores(Scorer(recipe, device="cpu", runtime="torch", precision="f32"), pictures, 0)
        real = [
            image["score"]
            for image in cell["images"]
            if image["type"] != GOOD and Half.HELD.has(image["position"])
        ]
        for rate in RATES:
            threshold = cell["thresholds"][f"{rate:g}"]["threshold"]
            shares = [fmean(score <= threshold for score in scores) for scores in by_kind.values()]
            truth = fmean(score <= threshold for score in real)
            apart.append(abs(fmean(shares) - truth))
            row = [*(f"{share:.2f}" for share in shares), f"{fmean(shares):.2f}", f"{truth:.2f}"]
            rows.append([name, f"{100 * rate:g} %", *row, f"{fmean(shares) - truth:+.2f}"])
    print(markdown(rows))
    close = sum(difference <= CLOSE for difference in apart)
    print(f"\n{close} of {len(apart)} drawn shares are within {CLOSE:g} of the real one; {processor()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
