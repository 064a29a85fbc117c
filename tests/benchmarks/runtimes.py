"""Compares every runtime and precision on this machine with torch in float32: scores, verdicts, time.

    .venv/bin/python -m tests.benchmarks.runtimes --recipe DIR --dataset DIR

The recipe was trained on the data set's train/good (as `tests.benchmarks.accuracy` leaves them in its --out).
Its 8-bit model is made here as in `train`, from the training images; each threshold comes from the other
images. A second look is a float32 score of an image that the 8-bit model does not find clearly good. Nothing
is written. The exit code is 1 if the agreement is less than promised.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from drivers import image_file
from monitor.evaluation.auroc_pro import auroc
from monitor.images.preprocessing import resize_image
from monitor.inference.backends import F32, INT8, available_backends, choose_device
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.system.progress import SILENT
from monitor.training.calibrate_recipe import set_thresholds
from monitor.training.quantisation import quantise_recipe, rank_correlation
from monitor.training.readable_images import file_mark
from monitor.training.thresholds import ThresholdRule
from tests.benchmarks.markdown import markdown

_MAPS, _RANKS, _VERDICTS, _LOSS = 1e-4, 0.98, 0.99, 0.005


def with_int8(recipe: RecipeVersion, good: list[Path], overkill: float) -> RecipeVersion:
    training = recipe.document.training
    assert training is not None
    seen = [file for file in good if file_mark(file) in training.seen]
    fresh = [file for file in good if file_mark(file) not in training.seen]
    pictures = [resize_image(image_file.read(file), recipe.size) for file in seen]
    made = quantise_recipe(
        recipe, pictures, range(training.train), range(training.train, len(pictures)), seed=0
    )
    return set_thresholds(made, fresh, ThresholdRule(overkill), device="cpu", say=print, progress=SILENT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR")
    parser.add_argument("--overkill", type=float, default=0.05)
    options = parser.parse_args()
    good = image_file.find(options.dataset / "train" / "good")
    recipe = with_int8(RecipeVersion.load(options.recipe), good, options.overkill)
    files = image_file.find(options.dataset / "test")
    bad = np.array([file.parent.name != "good" for file in files])
    shown = [image_file.read(file) for file in files]
    rows = [
        [
            "",
            "ms a good image",
            "second looks, good",
            "defective",
            "image AUROC",
            "maps apart",
            "ranks agree",
            "same verdicts",
            "overkill",
            "escapes",
        ]
    ]
    failed = False
    reference, verdicts, areas = np.array([]), np.array([]), 0.0
    maps = plain = np.array([])
    for runtime, precision in available_backends(recipe, choose_device("cpu")):
        scorer = Scorer(recipe, device="cpu", runtime=runtime, precision=precision)
        scorer.warm_up()
        results, took = [], []
        for image in shown:
            began = time.perf_counter()
            results += scorer.score([image])
            took.append(1000 * (time.perf_counter() - began))
        ms = float(np.mean(np.array(took)[~bad]))
        scores = np.array([result.score for result in results])
        rejected, area = scores > scorer.threshold, auroc(scores[~bad], scores[bad])
        own = np.stack([result.anomaly_map for result in results])
        if scorer.calibration_key == REFERENCE:
            reference, verdicts, areas, maps = scores, rejected, area, own
        if precision == F32:
            plain = own
        apart = float(np.abs(own - maps).max() / np.abs(maps).max())
        ranks = rank_correlation(list(reference), list(scores))
        same = float((rejected == verdicts).mean())
        failed |= ranks < _RANKS or same < _VERDICTS or area < areas - _LOSS
        failed |= precision == "f32" and apart > _MAPS
        again = np.array([(one == exact).all() for one, exact in zip(own, plain, strict=True)])
        looks = [f"{again[part].mean():.0%}" if precision == INT8 else "-" for part in (~bad, bad)]
        figures = [f"{ms:.1f}", *looks, f"{area:.4f}", f"{apart:.1e}", f"{ranks:.4f}", f"{same:.1%}"]
        figures += [f"{rejected[~bad].mean():.1%}", f"{(~rejected[bad]).mean():.1%}"]
        rows.append([scorer.calibration_key, *figures])
    print(markdown(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
