"""Scores test images with a recipe for `tests.benchmarks.decisions`, by the program of any version.

It is run as a script with PYTHONPATH naming the checkout whose program scores. It imports nothing from
`tests`, and from the program only what every version has.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

REFERENCE = "torch-f32"
RateCalibration = Callable[[Sequence[float], float], tuple[float, float | None]]
"""From scores and a rate of overkill to a threshold and the guaranteed rate, None without a guarantee."""


def thresholds(
    document: Mapping[str, Any], rates: Sequence[float], make: RateCalibration
) -> dict[str, dict[str, Any]]:
    """The recipe's own threshold for each rate of overkill, by the rate as text, with the rate that it
    guarantees.

    `document` is `recipe.json`. A rate that it states no threshold for gets the one that `make` computes from
    the recorded scores.
    """
    points = {point["overkill"]: point for point in document.get("operating_points", ())}
    in_force = document["calibration"][REFERENCE]
    found: dict[str, dict[str, Any]] = {}
    for rate in rates:
        if rate in points:
            threshold, guarantee, source = points[rate]["threshold"], points[rate].get("guarantee"), "stated"
        elif in_force["overkill"] == rate:
            guarantee = in_force.get("guarantee") or (rate if in_force["guaranteed"] else None)
            threshold, source = in_force["threshold"], "in force"
        else:
            threshold, guarantee = make(in_force["scores"], rate)
            source = "computed from the recorded scores"
        found[f"{rate:g}"] = {"threshold": threshold, "guarantee": guarantee, "source": source}
    return found


def test_files(dataset: Path, find: Callable[[Path], list[Path]]) -> list[tuple[str, int, Path]]:
    """Each image of test/ with its type and its position among the images of its type, sorted by path."""
    return [
        (folder.name, position, file)
        for folder in sorted((dataset / "test").iterdir())
        if folder.is_dir()
        for position, file in enumerate(find(folder))
    ]


def make_by_version(architecture: str) -> RateCalibration:
    """The rule of the program's own version."""

    def make(scores: Sequence[float], rate: float) -> tuple[float, float | None]:
        # Imported only here: a version whose recipes state all thresholds may have other rules.
        from monitor.teachers.architectures import map_ceiling
        from monitor.training.thresholds import make_calibration

        made = make_calibration(scores, rate, map_ceiling(architecture))
        return made.threshold, rate if made.guaranteed else None

    return make


def score(recipe: Path, dataset: Path, rates: Sequence[float]) -> dict[str, Any]:
    """The scores of all test images, the thresholds, and the median time of a frame from pixels to score."""
    from drivers import image_file
    from monitor.recipe import Recipe

    # In float32: what is fastest differs between machines, and the scores with it.
    scorer = Recipe.load(recipe).scorer(precision="f32")
    scorer.warm_up()
    images, seconds = [], []
    for kind, position, file in test_files(dataset, image_file.find):
        image = image_file.read(file)
        began = time.perf_counter()
        (result,) = scorer.score([image])
        seconds.append(time.perf_counter() - began)
        images.append({"type": kind, "position": position, "name": file.name, "score": result.score})
    document = json.loads((recipe / "recipe.json").read_text())
    return {
        "images": images,
        "ms": 1000 * statistics.median(seconds),
        "runtime": f"{scorer.runtime}-{scorer.precision}",
        "size": document["size"],
        "thresholds": thresholds(document, rates, make_by_version(document["teacher"]["architecture"])),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="the program must be the one in here")
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    import monitor

    if not Path(str(monitor.__file__)).is_relative_to(options.checkout):
        print(f"{monitor.__file__}: not the program of {options.checkout}", file=sys.stderr)
        return 1
    options.out.write_text(json.dumps(score(options.recipe, options.dataset, options.rates)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
