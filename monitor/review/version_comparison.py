"""Two versions of recipes on the same images: scores, verdicts, and the parts whose verdict would change.

It knows nothing of HTTP and of arguments. Scores of two versions have different scales, so each is counted in
thresholds of its version: a part is rejected above 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from drivers.image_file import Image, ImageError, read
from monitor.system.printable import clean_line
from monitor.system.progress import SILENT, Progress
from monitor.training.oddest_images import draw_sheet
from monitor.verdict import Verdict, judge

if TYPE_CHECKING:
    from monitor.inference.scorer import Scorer

BIN_EDGES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0, 4.0, math.inf)
"""Of the histogram, in thresholds. 1 is an edge: the bins below it pass."""
MOST_SHOWN = 24
"""The most parts in the picture: those whose scores differ most."""
_EMPTY = 0.0
"""The score of a frame in which a version's presence gate finds no part: it passes."""


class ComparedImage(msgspec.Struct, frozen=True):
    """One image by both versions, in thresholds of each."""

    file: str
    one: float
    other: float

    @property
    def verdicts(self) -> tuple[Verdict, Verdict]:
        return judge(self.one, 1.0)[0], judge(self.other, 1.0)[0]

    @property
    def changes(self) -> bool:
        """Whether the verdicts of both versions differ."""
        return self.verdicts[0] is not self.verdicts[1]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two versions make of the same images."""

    one: str
    """`NAME@VERSION`."""
    other: str
    thresholds: tuple[float, float]
    images: tuple[ComparedImage, ...]
    skipped: tuple[str, ...]
    """A line about each image that can't be read."""

    @property
    def changed(self) -> list[ComparedImage]:
        """The images whose verdict would change, those that would pass first, and of both the clearest
        first."""
        found = [image for image in self.images if image.changes]
        return sorted(found, key=lambda image: (image.verdicts[1] is Verdict.REJECT, -abs(_distance(image))))

    def count(self, one: Verdict, other: Verdict) -> int:
        """How many images have these verdicts."""
        return sum(image.verdicts == (one, other) for image in self.images)

    def histogram(self) -> list[tuple[float, float, int, int]]:
        """From, to (in thresholds), and how many images each version scores there."""
        counts = [
            np.histogram(np.nan_to_num(scores, nan=1e30, posinf=1e30), [*BIN_EDGES[:-1], 1e31])[0]
            for scores in ([image.one for image in self.images], [image.other for image in self.images])
        ]
        return [
            (low, high, int(counts[0][place]), int(counts[1][place]))
            for place, (low, high) in enumerate(pairwise(BIN_EDGES))
        ]


def compare_versions(
    one: Scorer,
    other: Scorer,
    files: Sequence[Path],
    *,
    names: tuple[str, str],
    progress: Progress = SILENT,
    step: Callable[[], None] = lambda: None,
) -> Comparison:
    """Scores each readable file with both versions. `step` is called after each file."""
    images: list[ComparedImage] = []
    skipped: list[str] = []
    for done, file in enumerate(files, start=1):
        try:
            image = read(file)
            images.append(ComparedImage(str(file), _in_thresholds(one, image), _in_thresholds(other, image)))
        except (ImageError, ValueError) as error:
            skipped.append(f"skipped: {clean_line(str(file))}: {error}")
        progress.update("compare", done, len(files))
        step()
    return Comparison(*names, (one.threshold, other.threshold), tuple(images), tuple(skipped))


def explain(comparison: Comparison) -> Iterator[str]:
    """The comparison in lines: counts, histogram, and every image whose verdict would change."""
    one, other = comparison.one, comparison.other
    (threshold, other_threshold), images = comparison.thresholds, len(comparison.images)
    yield f"{images} images; threshold {threshold:.4g} ({one}) and {other_threshold:.4g} ({other})"
    for verdict in (Verdict.PASS, Verdict.REJECT):
        for second in (Verdict.PASS, Verdict.REJECT):
            count = comparison.count(verdict, second)
            yield f"{count:7d}  {one} {verdict.word}, {other} {second.word}"
    yield f"{'score in thresholds':>20}  {one:>10}  {other:>10}"
    for low, high, first, second_count in comparison.histogram():
        upper = f"{low:g} to {high:g}" if math.isfinite(high) else f"above {low:g}"
        yield f"{upper:>20}  {first:10d}  {second_count:10d}"
    changed = comparison.changed
    yield f"verdicts that would change: {len(changed)}"
    for image in changed:
        before, after = image.verdicts
        yield (
            f"{before.word} -> {after.word}  {image.one:.2f} -> {image.other:.2f} thresholds  "
            f"{clean_line(image.file)}"
        )


def encode(comparison: Comparison) -> bytes:
    """The comparison as JSON, with every image's scores in thresholds."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n"


def draw_changed(comparison: Comparison) -> Image | None:
    """A contact sheet of the parts whose verdict would change, uint8 (H, W, 3) BGR, each with its score by
    the other version; None where there is none."""
    pictures, scores = [], []
    for image in comparison.changed[:MOST_SHOWN]:
        try:
            pictures.append(read(Path(image.file)))
        except ImageError:
            continue
        scores.append(image.other)
    return draw_sheet(pictures, scores, 1.0) if pictures else None


def _in_thresholds(scorer: Scorer, image: Image) -> float:
    (result,) = scorer.inspect([image])
    return _EMPTY if result is None else result.score / scorer.threshold


def _distance(image: ComparedImage) -> float:
    if not (math.isfinite(image.one) and math.isfinite(image.other)):
        return math.inf
    return math.log(max(image.other, 1e-9) / max(image.one, 1e-9))
