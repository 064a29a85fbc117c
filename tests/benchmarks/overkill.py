"""Is the overkill rate kept? `python -m tests.benchmarks.overkill [--images DIR] [--recipe DIR |
--simulate]`.

One student scores good images that it never saw. The scores are split at random, 200 times: one half sets the
threshold, the other half is judged with it. The exit code is 1 if the mean overkill exceeds the requested
rate by more than two standard errors.

With `--simulate` no image is scored. Scores of good parts and of ten known defects are drawn instead, for
images of one part each, for three near copies of each part, and for lots of parts that are alike. The table
shows the overkill at the promised rate, the share of recipes that stay below the rate that is stated with 95
% confidence, and how often the stated interval of escapes contains the true share. The exit code is 1 if one
of them is not kept.

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
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from drivers import image_file, simulated
from monitor.evaluation.intervals import CONFIDENCE, exact_interval
from monitor.evaluation.results import align_columns
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.system import progress
from monitor.training.image_scores import score_files
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


@dataclass(frozen=True)
class Scene:
    """How the scores of good parts are drawn: lots, parts in each, images of each part."""

    name: str
    lots: int
    parts_a_lot: int
    images_a_part: int
    by: str
    """What counts as one part in the calibration: the image, the part or the lot."""
    counted_apart: bool = False
    """Images hang together that count apart. This shows what goes wrong then, and nothing has to be kept."""

    def groups(self) -> dict[str, NDArray[np.int_]]:
        """By `image`, `part` and `lot`: the number of each image's own."""
        images = np.arange(self.lots * self.parts_a_lot * self.images_a_part)
        part = images // self.images_a_part
        return {"image": images, "part": part, "lot": part // self.parts_a_lot}


SIMULATED = (
    Scene("one image a part", 99, 1, 1, "image"),
    Scene("60 parts, one image each", 60, 1, 1, "image"),
    Scene("3 near copies of each part, together", 99, 1, 3, "part"),
    Scene("3 near copies of each part, apart", 99, 1, 3, "image", counted_apart=True),
    Scene("lots of 10 parts, by lot", 30, 10, 1, "lot"),
    Scene("lots of 10 parts, by part", 30, 10, 1, "image", counted_apart=True),
)
MEMORY = (
    Scene("memory, one image a part", 99, 1, 1, "part"),
    Scene("memory, 3 near copies left out together", 99, 1, 3, "part"),
    Scene("memory, 3 near copies left out apart", 99, 1, 3, "image", counted_apart=True),
)
_LOT, _PART, _COPY = 0.3, 0.25, 0.02
"""The spread of the logarithm of scores: of lots, of parts of one lot, of near copies of one part."""
_DEFECTS, _DEFECTS_ABOVE = 10, 0.6
"""The number of known defects, and how far the logarithms of their scores lie above those of good parts."""
_LEAST_COVERAGE = 0.93
"""So many of 200 intervals must contain the truth."""
_LEAST_BELOW_OF_MEMORY = 0.9
"""A memory's scores depend on one another, so the rate stated with 95 % confidence is approximate: with 1,000
draws and one image a part, 92.6 and 93.7 % of recipes stayed below it."""
_FEATURES, _FEATURE_NOISE = 6, 0.02
"""A part's features, normally distributed, and the spread of its near copies in units of the parts'
spread."""
_NEW_PARTS = 5000


@dataclass(frozen=True)
class Simulation:
    """What many recipes of one scene and rate do."""

    overkill: float
    error: float
    promised: float
    """The rate that is guaranteed on average."""
    below: float
    """The share of recipes whose overkill is below their own rate stated with 95 % confidence."""
    least_below: float
    """The smallest share that this may be."""
    covered: float = 1.0
    """The share of recipes whose interval of escapes contains the true share."""

    @property
    def kept(self) -> bool:
        return (
            self.overkill <= self.promised + 2 * self.error
            and self.below >= self.least_below
            and self.covered >= _LEAST_COVERAGE
        )


def simulate(scene: Scene, rate: float, draws: int, seed: int) -> Simulation:
    """Recipes whose scores are drawn. A new part comes from a new lot."""
    generator = np.random.default_rng(seed)
    spread = math.sqrt(_LOT**2 + _PART**2 + _COPY**2)
    groups = scene.groups()
    lot, part = groups["lot"], groups["part"]
    parts = groups[scene.by].tolist()
    overkills, promised, below, covered = [], [], [], []
    for _ in range(draws):
        logs = (
            generator.normal(0, _LOT, scene.lots)[lot]
            + generator.normal(0, _PART, part[-1] + 1)[part]
            + generator.normal(0, _COPY, len(parts))
        )
        found = make_calibration(np.exp(logs).tolist(), rate, parts=parts)
        assert found.guarantee is not None
        assert found.confident is not None
        level = math.log(found.threshold)
        overkills.append(1 - NormalDist(0, spread).cdf(level))
        promised.append(found.guarantee)
        below.append(overkills[-1] < found.confident)
        passing = NormalDist(_DEFECTS_ABOVE, spread).cdf(level)
        passed = int((generator.normal(_DEFECTS_ABOVE, spread, _DEFECTS) <= level).sum())
        low, high = exact_interval(passed, _DEFECTS)
        covered.append(low <= passing <= high)
    return Simulation(
        overkill=float(np.mean(overkills)),
        error=float(np.std(overkills, ddof=1)) / math.sqrt(draws),
        promised=float(np.mean(promised)),
        below=float(np.mean(below)),
        least_below=CONFIDENCE - 2 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / draws),
        covered=float(np.mean(covered)),
    )


def simulate_memory(scene: Scene, rate: float, draws: int, seed: int) -> Simulation:
    """Recipes of a memory whose scores are distances to the nearest good feature. Each image's score comes
    from the memory without the images of its part, as `by` counts them; a new part's score from the whole
    memory."""
    generator = np.random.default_rng(seed)
    groups = scene.groups()
    part, left_out = groups["part"], groups[scene.by]
    overkills, promised, below = [], [], []
    for _ in range(draws):
        features = generator.normal(0, 1, (part[-1] + 1, _FEATURES))[part]
        features += generator.normal(0, _FEATURE_NOISE, features.shape)
        distances = cdist(features, features)
        distances[left_out[:, None] == left_out[None]] = np.inf
        found = make_calibration(distances.min(axis=1).tolist(), rate, parts=left_out.tolist())
        new = cdist(generator.normal(0, 1, (_NEW_PARTS, _FEATURES)), features).min(axis=1)
        assert found.guarantee is not None
        assert found.confident is not None
        overkills.append(float((new > found.threshold).mean()))
        promised.append(found.guarantee)
        below.append(overkills[-1] < found.confident)
    error = float(np.std(overkills, ddof=1)) / math.sqrt(draws)
    return Simulation(
        float(np.mean(overkills)),
        error,
        float(np.mean(promised)),
        float(np.mean(below)),
        _LEAST_BELOW_OF_MEMORY,
    )


def print_simulations(draws: int, seed: int) -> bool:
    """The table of all scenes and rates. Returns whether all that must be kept is kept."""
    rows = [("scores", "asked", "promised", "overkill", "below the 95 % rate", "intervals right", "")]
    all_kept = True
    for scene, simulation in [(one, simulate) for one in SIMULATED] + [
        (one, simulate_memory) for one in MEMORY
    ]:
        for rate in RATES:
            found = simulation(scene, rate, draws, seed)
            all_kept &= found.kept or scene.counted_apart
            rows.append(
                (
                    scene.name,
                    f"{rate:.0%}",
                    f"{found.promised:.2%}",
                    f"{found.overkill:.2%} ± {found.error:.2%}",
                    f"{found.below:.1%}",
                    f"{found.covered:.1%}" if simulation is simulate else "",
                    _outcome(scene, found),
                )
            )
    print(align_columns(rows))
    return all_kept


def _outcome(scene: Scene, found: Simulation) -> str:
    if found.kept:
        return "kept"
    return "not kept, and not promised" if scene.counted_apart else "NOT KEPT"


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
    parser.add_argument("--simulate", action="store_true", help="draw scores: takes seconds")
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
    if options.simulate:
        return 0 if print_simulations(options.splits, options.seed) else 1
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
        scored = score_files(Scorer(recipe), fresh, print, progress.choose_progress(sys.stderr), "score")
        scores = [score for _, score in scored]
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
