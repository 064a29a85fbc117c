"""Is the overkill rate kept? `python -m tests.benchmarks.overkill [--images DIR] [--recipe DIR]`.

One student scores good images that it never saw. The scores are split at random, 200 times: one half sets the
threshold, the other half is judged with it. The exit code is 1 if the mean overkill exceeds the requested
rate by more than two standard errors.

Without a recipe, one is trained on half of the images; without images, on a simulated scene. For given scores
all splits have the same probability, so the splits are independent and their spread gives the standard error.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from drivers import image_file, simulated
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.system import progress
from monitor.training.image_scores import score_images
from monitor.training.readable_images import file_mark
from monitor.training.thresholds import images_needed, make_calibration
from monitor.training.train_recipe import TrainingRequest, train_recipe

RATES = (0.05, 0.01)


@dataclass(frozen=True)
class Outcome:
    """Overkill in random halves, as shares from 0 to 1."""

    rate: float
    mean: float
    error: float
    """The mean's standard error."""
    worst: float

    @property
    def kept(self) -> bool:
        return self.mean <= self.rate + 2 * self.error


def experiment(scores: list[float], rate: float, splits: int, seed: int) -> Outcome:
    """Set the threshold on one half of the scores and measure the overkill on the other."""
    generator, values, half = np.random.default_rng(seed), np.asarray(scores), len(scores) // 2
    overkills = []
    for _ in range(splits):
        order = generator.permutation(len(values))
        threshold = make_calibration(values[order[:half]].tolist(), rate).threshold
        overkills.append(float((values[order[half:]] > threshold).mean()))
    error = float(np.std(overkills, ddof=1)) / math.sqrt(splits)
    return Outcome(rate, float(np.mean(overkills)), error, max(overkills))


def draw(scene: str, folder: Path, count: int, side: int) -> list[Path]:
    conveyor = simulated.conveyor(scene, 0, 0.0, (side, side))
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:05d}.png"), conveyor.image(index))
    return image_file.find(folder)


def train(files: list[Path], folder: Path, options: argparse.Namespace) -> RecipeVersion:
    good = folder / "good"
    good.mkdir()
    for index, file in enumerate(files):
        (good / f"{index:05d}{file.suffix}").symlink_to(file.absolute())
    return train_recipe(
        TrainingRequest(
            name="overkill",
            recipes=folder / "recipes",
            images=good,
            teacher=options.teacher,
            teacher_weights=options.teacher_weights,
            teachers=folder / "teachers",
            size=options.size,
            epochs=options.epochs,
            seed=options.seed,
        ),
        say=print,
        progress=progress.choose_progress(sys.stderr),
    )


def unseen(recipe: RecipeVersion, files: list[Path]) -> list[Path]:
    training = recipe.document.training
    seen = frozenset(training.seen if training else ())
    return [file for file in files if file_mark(file) not in seen]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, help="good images, any depth")
    parser.add_argument("--recipe", type=Path, help="a recipe's folder")
    parser.add_argument("--scene", choices=sorted(simulated.SCENES), default="plate")
    parser.add_argument("--count", type=int, default=2100, help="simulated images (2100)")
    parser.add_argument("--train", type=int, default=100, help="of them, to train on (100)")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--teacher", default="resnet18-bundled")
    parser.add_argument("--teacher-weights", type=Path)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.recipe and not options.images:
        parser.error("--recipe needs --images of its parts")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.images:
            files = image_file.find(options.images)
        else:
            files = draw(options.scene, folder / "drawn", options.count, 2 * options.size)
        shuffled = [files[i] for i in np.random.default_rng(options.seed).permutation(len(files))]
        if options.recipe:
            recipe = RecipeVersion.load(options.recipe)
        else:
            to_train = len(files) // 2 if options.images else options.train
            recipe = train(shuffled[:to_train], folder, options)
            shuffled = shuffled[to_train:]
        fresh = unseen(recipe, shuffled)
        scores = score_images(Scorer(recipe), fresh, print, progress.choose_progress(sys.stderr), "score")
    print(f"{len(scores)} good images that {recipe.name} never saw, split {options.splits} times")
    kept = True
    for rate in RATES:
        if len(scores) // 2 < images_needed(rate):
            print(f"rate {rate}: needs {2 * images_needed(rate)} images")
            kept = False
            continue
        outcome = experiment(scores, rate, options.splits, options.seed)
        kept &= outcome.kept
        print(
            f"rate {rate}: overkill {outcome.mean:.5f}, standard error {outcome.error:.5f}, "
            f"at most {outcome.worst:.4f} in a split: {'kept' if outcome.kept else 'NOT KEPT'}"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
