"""Measures what passes at the high thresholds of students that have hardly learnt.

    .venv/bin/python -m tests.benchmarks.high_thresholds --data DIR [--size PX]

Below DIR lie data sets in MVTec AD's layout. For each set it trains students for one and two epochs on 40 and
100 good images, with the carried teacher and, if --squeezenet names its weights, with SqueezeNet. A row has
the student's mean map of good images, its threshold, and the share of 40 defects that pass. The warning of
`train` and `calibrate` that hardly any defect can be rejected begins where these shares are near 100 %.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

from drivers import image_file
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.teachers.architectures import BUNDLED
from monitor.training.train_recipe import TrainingRequest, train_recipe
from tests.benchmarks.markdown import markdown

_TRAININGS = ((40, 1), (100, 1), (100, 2))
"""Good images and epochs."""
_SCORED = 40


def choose(folder: Path, count: int, rng: random.Random) -> list[Path]:
    files = image_file.find(folder)
    return rng.sample(files, min(count, len(files)))


def train(
    folder: Path, images: list[Path], teacher: str, weights: Path | None, options: tuple[int, int]
) -> RecipeVersion:
    """A student after so many epochs at a size in pixels."""
    epochs, size = options
    (folder / "good").mkdir(parents=True)
    for image in images:
        (folder / "good" / image.name).symlink_to(image.resolve())
    request = TrainingRequest(
        name="recipe",
        recipes=folder,
        images=folder / "good",
        teacher=teacher,
        teacher_weights=weights,
        teachers=folder,
        size=size,
        epochs=epochs,
    )
    return train_recipe(request, say=lambda line: None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="of the network's input (128)")
    parser.add_argument("--squeezenet", type=Path, metavar="FILE", help="weights of squeezenet1_1")
    options = parser.parse_args()
    teachers: list[tuple[str, Path | None]] = [(BUNDLED, None)]
    if options.squeezenet:
        teachers.append(("squeezenet1_1", options.squeezenet))
    rows = [["set", "teacher", "images", "epochs", "mean map", "threshold", "defects that pass"]]
    for data_set in sorted(folder.parent for folder in options.data.glob("*/train")):
        rng = random.Random(0)
        good = choose(data_set / "train/good", max(count for count, _ in _TRAININGS), rng)
        kinds = sorted(folder for folder in (data_set / "test").iterdir() if folder.name != "good")
        defects = [image for kind in kinds for image in choose(kind, -(-_SCORED // len(kinds)), rng)]
        for teacher, weights in teachers:
            for count, epochs in _TRAININGS:
                with tempfile.TemporaryDirectory() as name:
                    recipe = train(Path(name), good[:count], teacher, weights, (epochs, options.size))
                scorer = Scorer(recipe)
                maps = [scorer.score([image_file.read(image)])[0].anomaly_map.mean() for image in good[:10]]
                scores = [scorer.score([image_file.read(image)])[0].score for image in defects]
                passing = float(np.mean(np.array(scores) <= scorer.threshold))
                shown = [f"{np.mean(maps):.2f}", f"{scorer.threshold:.2f}", f"{passing:.0%}"]
                rows.append([data_set.name, teacher, str(count), str(epochs), *shown])
                print(rows[-1], file=sys.stderr, flush=True)
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
