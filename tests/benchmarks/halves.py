"""Images that chose the settings, and the others: `python -m tests.benchmarks.halves --out DIR`.

The default settings were chosen on the defects of one type and on every second good test image. For each
finished cell of `tests.benchmarks.accuracy` in --out this prints the image AUROC on these images and on the
rest: the other types and the other good images. On the rest the default settings and the paper's can be
compared fairly. The good images alternate in the order of their paths; the first one belongs to the images
that chose. The carried teacher was chosen on all images, so compare modes, not teachers. It only scores; it
does not train.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivers import image_file
from monitor.evaluation.auroc_pro import auroc
from monitor.evaluation.dataset import GOOD
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.training import readable_images
from tests.benchmarks.cells import CellError, read
from tests.benchmarks.markdown import markdown

CHOSEN_ON = ("blowhole",)


@dataclass(frozen=True)
class Scored:
    """A test image."""

    kind: str
    """The type of defect, or `good`."""
    score: float


@dataclass(frozen=True)
class Half:
    """The image AUROC of some test images, with the numbers of good and defective ones."""

    good: tuple[float, ...]
    bad: tuple[float, ...]

    @property
    def image_auroc(self) -> float | None:
        """It is None if all images are good or all are defective."""
        return auroc(np.array(self.good), np.array(self.bad)) if self.good and self.bad else None

    def cell(self) -> str:
        value = self.image_auroc
        return f"{'-' if value is None else f'{value:.3f}'} ({len(self.good)} + {len(self.bad)})"


def halves(scored: Sequence[Scored], chosen_on: Sequence[str]) -> tuple[Half, Half]:
    """The images that chose the settings, and the rest. `scored` is in the order of the files' paths."""
    good = [one.score for one in scored if one.kind == GOOD]
    bad = [one for one in scored if one.kind != GOOD]
    return (
        Half(tuple(good[::2]), tuple(one.score for one in bad if one.kind in chosen_on)),
        Half(tuple(good[1::2]), tuple(one.score for one in bad if one.kind not in chosen_on)),
    )


def scores(recipe: Path, dataset: Path) -> list[Scored]:
    """Of every usable image in the data set's test/, in the order of their paths. Raises RecipeError,
    images.ImageError."""
    scorer = Scorer(RecipeVersion.load(recipe))
    test = dataset / "test"

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    return [
        Scored(file.relative_to(test).parts[0], scorer.score([image])[0].score)
        for file, _, image in readable_images.read_images(image_file.find(test), say)
    ]


def table(cells: Sequence[tuple[dict[str, Any], Sequence[Scored]]], chosen_on: Sequence[str]) -> str:
    """A row for each cell: the image AUROC, and in brackets the numbers of good and defective images."""
    rows = [["teacher", "mode", f"chosen on ({', '.join(chosen_on)})", "the rest", "all"]]
    for cell, scored in cells:
        chose, rest = halves(scored, chosen_on)
        whole = Half(chose.good + rest.good, chose.bad + rest.bad)
        rows.append([cell["teacher"], cell["mode"], *(half.cell() for half in (chose, rest, whole))])
    return markdown(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="as given to accuracy")
    parser.add_argument("--chosen-on", nargs="+", default=CHOSEN_ON, metavar="TYPE", help="(blowhole)")
    options = parser.parse_args()
    found, failed = [], 0
    for file in sorted(options.out.glob("*.json")):
        try:
            cell = read(file)
            assert cell is not None  # the file was there a moment ago
            dataset = Path(cell["settings"]["dataset"])
            found.append((cell, scores(options.out / "recipes" / file.stem, dataset)))
        except (CellError, RecipeError, image_file.ImageError) as error:
            failed += 1
            print(f"{file}: {error}", file=sys.stderr)
    if not found:
        parser.error(f"{options.out}: no finished cells there: run tests.benchmarks.accuracy first")
    print(table(found, options.chosen_on))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
