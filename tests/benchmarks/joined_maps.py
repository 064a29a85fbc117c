"""Ways to join the maps of a student and a memory: `python -m tests.benchmarks.joined_maps`.

The folder --recipes is the `--out` of `tests.benchmarks.decisions`, which has trained a recipe with a student
and a memory for each data set of --data. For each way, the recipe's calibrating images are scored anew,
without their own features in the memory, and every test image is scored. The table has the means over the
sets: image AUROC, and overkill and escape at the thresholds that the calibrating scores give.

Which half of the test images may choose is as in `tests.benchmarks.decisions`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from drivers import image_file
from monitor.evaluation.auroc_pro import auroc
from monitor.evaluation.dataset import GOOD
from monitor.feature_memory.memory import kept_name
from monitor.images.preprocessing import resize_image
from monitor.inference.anomaly_network import Networks, build_networks
from monitor.inference.torch_network import TorchNetwork
from monitor.model.memory_level import MEMORY_LEVELS, numbers_of
from monitor.model.recipe_version import RecipeVersion
from monitor.training.memory_training import GoodImages, LeftOutScorer
from monitor.training.parts import blocks_of, find_parts, make_thumbnail, name_below
from monitor.training.readable_images import file_mark
from monitor.training.thresholds import make_calibration
from tests.benchmarks.decisions import (
    RATES,
    TITLES,
    Half,
    add_trained_recipes,
    cell_name,
    find_sets,
    processor,
    recipe_folder,
)
from tests.benchmarks.decisions_child import test_files
from tests.benchmarks.markdown import markdown

SHARES = {"larger of both": None, "mean 1:1": 1 / 2, "mean 1:2": 2 / 3, "mean 1:3": 3 / 4}
"""The memory's share by way, student : memory; None: the larger of both."""
OWN_CHOICE = "mean chosen for each set by its other half"


@dataclass(frozen=True)
class SetImages:
    """The resized images of one data set, and how its recipe used them."""

    recipe: RecipeVersion
    good: GoodImages
    """The good images of train/."""
    owners: Sequence[NDArray[np.int64]]
    """By level and kept feature of the memory, the number of the image that it comes from."""
    calibrating: Sequence[int]
    parts: Sequence[int]
    """By image of `good`, the number of the part that it shows."""
    test: GoodImages
    """The images of test/, each a block of its own, and behind them the block of all kept features."""
    of_test: Sequence[tuple[str, int]]
    """By image of `test`, its type and its position in its folder."""


def read_set(data: Path, recipe: RecipeVersion) -> SetImages:
    """The images of the set in the folder `data`. Raises ImageError and RecipeError."""
    assert recipe.memory is not None
    folder = data / "train" / GOOD
    files = image_file.find(folder)
    images = [image_file.read(file) for file in files]
    kept = [len(recipe.memory[kept_name(level)]) for level in numbers_of(MEMORY_LEVELS)]
    if any(count % len(files) for count in kept):
        raise ValueError(f"{folder}: the recipe was not trained with these {len(files)} images")
    parts = find_parts(name_below(folder, files), [make_thumbnail(image) for image in images])
    marks = set(recipe.document.calibrated_on)
    found = test_files(data, image_file.find)
    test = [resize_image(image_file.read(file), recipe.size) for _, _, file in found]
    return SetImages(
        recipe,
        GoodImages([resize_image(image, recipe.size) for image in images], recipe.grid, blocks_of(parts)),
        [np.repeat(np.arange(len(files)), count // len(files)) for count in kept],
        [number for number, file in enumerate(files) if file_mark(file) in marks],
        parts,
        GoodImages(test, recipe.grid, [*range(len(test)), -1]),
        [(kind, position) for kind, position, _ in found],
    )


def ways_of(recipe: RecipeVersion) -> dict[str, Networks]:
    """The recipe's networks by way; student and memory alone are ways too."""
    both = build_networks(recipe)
    return {
        "student": replace(both, memory=None),
        "memory": replace(both, student=None, memory_share=None),
        **{way: replace(both, memory_share=share) for way, share in SHARES.items()},
    }


def figures(images: SetImages, networks: Networks) -> dict[Half, list[float]]:
    """By half: image AUROC, then overkill and escape at the threshold for each of `RATES`."""
    network = TorchNetwork(networks, torch.device("cpu"), half=False)
    calibrating = LeftOutScorer(images.good, images.owners).scores(network, images.calibrating)
    parts = [images.parts[number] for number in images.calibrating]
    count = len(images.of_test)
    nobody = [np.full_like(own, count) for own in images.owners]
    scores = LeftOutScorer(images.test, nobody).scores(network, range(count))
    found: dict[Half, list[float]] = {}
    for half in (Half.CHOOSING, Half.HELD):
        chosen = [
            (kind == GOOD, score)
            for (kind, position), score in zip(images.of_test, scores, strict=True)
            if half.has(position)
        ]
        good = np.array([score for is_good, score in chosen if is_good])
        defective = np.array([score for is_good, score in chosen if not is_good])
        found[half] = [auroc(good, defective)]
        for rate in RATES:
            threshold = make_calibration(calibrating, rate, parts=parts).threshold
            found[half] += [float((good > threshold).mean()), float((defective <= threshold).mean())]
    return found


def choose_mean(found: Mapping[Half, Mapping[str, Sequence[Sequence[float]]]], number: int) -> str:
    """The mean with the largest AUROC on the choosing half of the set with that number, as known defects
    would choose it."""
    means = [way for way, share in SHARES.items() if share is not None]
    return max(means, key=lambda way: found[Half.CHOOSING][way][number][0])


def table(found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """A row for each way: the means over the sets. `found` has the figures of each set by way."""
    head = ["map", "image AUROC"]
    for rate in RATES:
        head += [f"{100 * rate:g} %: overkill", f"{100 * rate:g} %: escape"]
    rows = [head]
    for way, sets in found.items():
        area, *shares = (fmean(column) for column in zip(*sets, strict=True))
        row = [way, f"{area:.3f}"]
        for overkill, escape in zip(shares[::2], shares[1::2], strict=True):
            row += [f"{100 * overkill:.1f} %", f"{escape:.3f}"]
        rows.append(row)
    return markdown(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_trained_recipes(parser)
    options = parser.parse_args()
    found: dict[Half, dict[str, list[list[float]]]] = {Half.CHOOSING: {}, Half.HELD: {}}
    names = find_sets(options.data)
    for name in names:
        folder = recipe_folder(options.recipes, cell_name(name, options.seed))
        images = read_set(options.data / name, RecipeVersion.load(folder))
        for way, networks in ways_of(images.recipe).items():
            print(f"{name}: {way}", file=sys.stderr, flush=True)
            for half, values in figures(images, networks).items():
                found[half].setdefault(way, []).append(values)
    chosen = [choose_mean(found, number) for number in range(len(names))]
    found[Half.HELD][OWN_CHOICE] = [found[Half.HELD][way][number] for number, way in enumerate(chosen)]
    print(
        f"chosen by each set: {', '.join(f'{name} {way}' for name, way in zip(names, chosen, strict=True))}"
    )
    for half, by_way in found.items():
        print(f"{TITLES[half]}, means over {', '.join(names)}:\n\n{table(by_way)}\n")
    print(f"seed {options.seed}; {processor()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
