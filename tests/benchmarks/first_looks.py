"""Compares bfloat16 first looks with float32 on labelled images: verdicts, second looks, time.

    .venv/bin/python -m tests.benchmarks.first_looks --recipes DIR... --datasets DIR... [--runtime torch]

Each recipe was trained on the train/good of the data set that is named at the same position. The processor
must have bfloat16. A recipe that was trained without pairs of scores gets them here from these images, as
`calibrate` makes them; nothing is written. Every test image is scored in both precisions in turns. The
verdicts are compared at each of the recipe's thresholds (0.5 to 5 % overkill). "Ratio" is float32's score
divided by bfloat16's, "limit" the threshold divided by the highest score that passes at first sight. The exit
code is 1 if a verdict differs or more than 10 % of the good parts get a second look.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from drivers import image_file
from monitor.images.preprocessing import resize_image
from monitor.inference.backends import BF16, F32, OPENVINO, TORCH
from monitor.inference.scorer import Scorer
from monitor.inference.second_look import first_look_limit
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.training.first_look import add_first_looks_of_files
from tests.benchmarks.markdown import markdown

_MOST_SECOND_LOOKS = 0.1
_HEAD = (
    "set",
    "compared with",
    "good + defective",
    "same verdicts",
    "limit",
    "ratio of test images",
    "good looked at twice",
    "defective",
    "ms f32",
    "ms first look",
    "of f32",
)


def measure(folder: Path, dataset: Path, runtime: str) -> tuple[list[str], bool]:
    """The row of one recipe, and whether all is as promised."""
    recipe = RecipeVersion.load(folder)
    if f"{runtime}-{BF16}" not in recipe.document.first_looks:
        recipe = add_first_looks_of_files(recipe, image_file.find(dataset / "train" / "good"))
    exact, quick = (
        Scorer(recipe, device="cpu", runtime=runtime, precision=precision) for precision in (F32, BF16)
    )
    files = image_file.find(dataset / "test")
    bad = np.array([file.parent.name != "good" for file in files])
    scores, took = np.zeros((2, len(files))), np.zeros((2, len(files)))
    for scorer in (exact, quick):
        scorer.warm_up()
    for number, file in enumerate(files):
        image = resize_image(image_file.read(file), recipe.size)
        tiles = [recipe.grid.cut(image, tile) for tile in range(len(recipe.grid))]
        for row, scorer in enumerate((exact, quick)):
            began = time.perf_counter()
            scores[row, number] = recipe.grid.stitch_maps(scorer.maps(tiles)).max()
            took[row, number] = 1000 * (time.perf_counter() - began)
    found = recipe.document.first_looks[f"{runtime}-{BF16}"]
    thresholds = {point.threshold for point in recipe.document.operating_points}
    thresholds.add(recipe.document.calibration[REFERENCE].threshold)
    same = True
    for threshold in sorted(thresholds):
        passed = scores[1] <= first_look_limit(found, threshold)
        same &= not bool((scores[0][passed] > threshold).any())
    own = exact.threshold
    limit = first_look_limit(found, own)
    again = scores[1] > limit
    most = float(again[~bad].mean())
    ratios = scores[0] / scores[1]
    document = recipe.document
    kind = "both" if document.student and document.memory else "student" if document.student else "memory"
    ms = np.median(took, axis=1)
    row = [
        dataset.name,
        kind,
        f"{(~bad).sum()} + {bad.sum()}",
        "all" if same else "NO",
        f"{own / limit:.3f}",
        f"{ratios.min():.3f} to {ratios.max():.3f}",
        f"{most:.0%}",
        f"{again[bad].mean():.0%}",
        f"{ms[0]:.1f}",
        f"{ms[1]:.1f}",
        f"{ms[1] / ms[0]:.2f}",
    ]
    return row, same and most <= _MOST_SECOND_LOOKS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--datasets", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--runtime", choices=(OPENVINO, TORCH), default=OPENVINO)
    options = parser.parse_args()
    if len(options.recipes) != len(options.datasets):
        parser.error("name one data set for each recipe")
    rows, fine = [list(_HEAD)], True
    for folder, dataset in zip(options.recipes, options.datasets, strict=True):
        row, good = measure(folder, dataset, options.runtime)
        print(", ".join(row), file=sys.stderr, flush=True)
        rows.append(row)
        fine &= good
    print(markdown(rows))
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
