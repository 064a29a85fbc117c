"""How good recipes are on labelled images in MVTec AD's layout, in the figures that papers print.

Must never change a recipe: the threshold comes from good images alone. Anomaly maps wait on disk; what is in
memory is one float32 for each defect-free pixel of a category: 0.5 GB for 2,000 images at 256 pixels.

Verdicts are the line's: an image in which the recipe's presence gate sees no part is passed, whatever its
score, so that a defect there has escaped. Ranks and pixels are of scores and maps, which all images get here.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers import image_file
from drivers.image_file import Image, ImageError
from monitor.errors import LineMonitorError
from monitor.evaluation import dataset as labelled
from monitor.evaluation.auroc_pro import Mask, auroc, per_region_overlap, regions_of
from monitor.evaluation.dataset import DatasetError, Entry, Part
from monitor.evaluation.map_store import MapFile, MapFileError, map_file
from monitor.images.preprocessing import Size
from monitor.inference.scorer import Scorer
from monitor.model.recipe_document import FILE, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.system.printable import in_one_line, legible
from monitor.system.progress import SILENT, Progress
from monitor.verdict import Verdict, judge

GOOD = "good"
FIGURES = ("image_auroc", "pixel_auroc", "pro", "overkill", "escape")
_SAME_SHAPE = 0.02
"""How far a mask's aspect ratio may be from its image's: rounding, when both were made smaller."""


class EvaluationError(LineMonitorError):
    """The data set can't be used; the message says why and what to do, in one line for each category."""


@dataclass(frozen=True)
class Figures:
    """What is said of a set of images; None where it can't be said: no such images, or no masks."""

    images: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    overkill: float | None
    """The share of good images that the line would not pass: above the threshold."""
    escape: float | None
    """The share of defective images that it would: not above the threshold, or without a part to its gate."""

    def as_dict(self) -> dict[str, float | None]:
        return {"images": self.images, **{name: getattr(self, name) for name in FIGURES}}


@dataclass(frozen=True)
class Evaluation:
    """One category with one recipe."""

    recipe: str
    recipe_sha: str
    threshold: float
    overall: Figures
    per_type: dict[str, Figures]
    """Each type of defect against the good images, and `good` by itself. `images` counts the type's own."""
    ms_per_image: float
    """Mean of scoring one image at a time, without reading its file."""
    no_part: int = 0
    """Images in which the recipe's presence gate sees no part."""

    def as_dict(self) -> dict[str, object]:
        """The contract's JSON."""
        return {
            "recipe": self.recipe,
            "recipe_sha": self.recipe_sha,
            "threshold": self.threshold,
            **self.overall.as_dict(),
            "per_type": {name: figures.as_dict() for name, figures in self.per_type.items()},
            "ms_per_image": self.ms_per_image,
            "no_part": self.no_part,
        }

    def table(self) -> str:
        """The same for people."""
        rows = [["", "images", *FIGURES]]
        for name, figures in [*self.per_type.items(), ("all", self.overall)]:
            values = figures.as_dict()
            rows.append([name, str(figures.images), *(shown(values[column]) for column in FIGURES)])
        passed = f", {self.no_part} passed as no_part" if self.no_part else ""
        return f"{aligned(rows)}\nthreshold {self.threshold:.4g}, {self.ms_per_image:.1f} ms an image{passed}"


@dataclass(frozen=True)
class Results:
    """What came of a data set, by category; a set of one category at its top has the name ""."""

    categories: dict[str, Evaluation]
    failed: dict[str, str]
    """Why the others could not be evaluated, each in one line with the fix."""

    @property
    def alone(self) -> Evaluation | None:
        """The evaluation of a set of one category."""
        if len(self.categories) + len(self.failed) > 1:
            return None
        return next(iter(self.categories.values()))


def evaluate(
    *,
    recipe: Path,
    dataset: Path,
    say: Callable[[str], None],
    progress: Progress = SILENT,
    device: str = "auto",
) -> Results:
    """Scores every category's test/ and compares with its ground_truth/. Raises EvaluationError.

    `dataset` is a folder or an archive, as in `monitor.evaluation.dataset.entries`. `recipe` serves all
    its categories;
    where there is none of that name, each category has its own, called <recipe>-<category>. Maps and masks
    are compared at the network's input resolution, as in the official code. Images and masks that can't be
    used are named to `say` and left out of what needs them; a category that can't be evaluated does not stop
    the others, unless none is left.
    """
    if not (recipe / FILE).is_file() and not any(recipe.parent.glob(f"{recipe.name}-*/{FILE}")):
        raise EvaluationError(
            f"no recipe {recipe.name!r} and none {recipe.name + '-<category>'!r} in {recipe.parent}: train it"
        )
    bench = _Bench(recipe, device)
    categories: dict[tuple[str, ...], _Category] = {}
    heard: list[str] = []
    try:
        with map_file() as maps:
            for entry in labelled.entries(dataset):
                key = entry.place.category
                if key not in categories:
                    categories[key] = _Category(legible(labelled.label(key)))
                category = categories[key]
                if not category.failure:
                    _take(entry, category, bench, maps, heard.append)
                progress.update("evaluate", entry.done, entry.total, entry.unit)
            for line in heard:
                say(line)
            return _results(categories, maps, dataset, say)
    except (DatasetError, MapFileError) as error:
        raise EvaluationError(str(error)) from None


def evaluate_recipe(
    *,
    recipe: Path,
    dataset: Path,
    say: Callable[[str], None],
    progress: Progress = SILENT,
    device: str = "auto",
) -> Evaluation:
    """`evaluate` for a data set of one category. Raises EvaluationError."""
    found = evaluate(recipe=recipe, dataset=dataset, say=say, progress=progress, device=device)
    if found.alone is None:
        raise EvaluationError(f"{dataset}: more than one category: give one of them")
    return found.alone


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )


def shown(value: float | None) -> str:
    """A figure for people; - where there is none."""
    return "-" if value is None else f"{value:.4f}"


@dataclass(frozen=True, slots=True)
class _Scored:
    kind: str
    score: float
    shape: tuple[int, int]
    """Rows and columns of its file."""
    map_at: int
    shown: str
    empty: bool = False
    """To the recipe's presence gate."""

    def passes(self, threshold: float) -> bool:
        """Whether the line would let it pass."""
        return self.empty or judge(self.score, threshold)[0] is Verdict.PASS


@dataclass(slots=True)
class _Category:
    """What is known of a category so far; its files come in any order."""

    label: str
    recipe: RecipeVersion | None = None
    threshold: float = 0.0
    images: dict[PurePosixPath, _Scored] = field(default_factory=dict)
    masks: dict[PurePosixPath, _Drawn] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A mask's file, as small as it can wait."""

    packed: NDArray[np.uint8]
    """The network's (size, size) pixels, one a bit."""
    shape: tuple[int, int]
    """Rows and columns of its file."""
    shown: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """A scored image and where its defect is."""

    scored: _Scored
    mask: NDArray[np.uint8] | None
    """One pixel a bit; None for a defective image without a usable mask."""


class _Bench:
    """The recipe that a category needs, ready to score; the last one stays ready."""

    def __init__(self, recipe: Path, device: str) -> None:
        self._recipe = recipe
        self._device = device
        self._at: Path | None = None
        self._scorer: Scorer | None = None

    def scorer(self, category: str) -> Scorer:
        """Raises RecipeError."""
        path = self._recipe
        if category and not (path / FILE).is_file():
            path = path.parent / f"{path.name}-{_slug(category)}"
            if not (path / FILE).is_file():
                raise RecipeError(
                    f"no recipe {path.name!r}: line-monitor train {path.name} --images {category}/train/good"
                )
        if self._scorer is None or path != self._at:
            scorer = Scorer(RecipeVersion.load(path), device=self._device)
            scorer.warm_up()
            self._at, self._scorer = path, scorer
        return self._scorer


def _slug(category: str) -> str:
    """A category's name as a part of a recipe's: metal_nut becomes metal-nut."""
    return re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")


def _take(
    entry: Entry, category: _Category, bench: _Bench, maps: MapFile, say: Callable[[str], None]
) -> None:
    """Adds an image or a mask to its category. Raises DatasetError, MapFileError."""
    try:
        scorer = bench.scorer(category.label)
    except RecipeError as error:
        category.failure = str(error)
        return
    category.recipe, category.threshold = scorer.recipe, scorer.threshold
    place = entry.place
    try:
        image = image_file.decode(entry.content())
    except ImageError as error:
        what = "skipped" if place.part is Part.IMAGE else "no mask"
        say(f"{what}: {in_one_line(entry.shown)}: {error}")
        return
    if place.part is Part.MASK:
        if place.name.suffix.lower() == ".png":
            drawn = np.packbits(shrunk(image, scorer.recipe.size))
            category.masks[place.name.with_suffix("")] = _Drawn(drawn, _shape(image), entry.shown)
        return
    began = time.perf_counter()
    (inspected,) = scorer.inspect([image])
    # An image without a part is scored as well: its score and its map count in the figures.
    result = scorer.score([image])[0] if inspected is None else inspected
    category.seconds += time.perf_counter() - began
    if not math.isfinite(result.score):
        category.failure = f"{entry.shown}: its score is not finite: train the recipe again"
        return
    category.images[place.name] = _Scored(
        legible(place.kind),
        result.score,
        _shape(image),
        maps.put(result.anomaly_map),
        entry.shown,
        inspected is None,
    )
    if inspected is None and place.kind != GOOD:
        say(f"no part: {entry.shown}: the presence gate passes it unscored, with its defect")


def shrunk(drawn: Image, size: Size) -> Mask:
    """A mask's file, (H, W[, 3]), 0 where there is no defect, at the network's size.

    Squashed bilinearly, and every pixel with any of the defect counts, as in the official code; but a defect
    so small that nothing of it would be left is averaged instead.
    """
    flat = drawn if drawn.ndim == 2 else drawn.max(axis=2)
    small = cv2.resize(flat, size[::-1], interpolation=cv2.INTER_LINEAR)
    if not small.any():
        # In float, where nothing is rounded away.
        small = cv2.resize(flat.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small > 0)


def _shape(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _results(
    categories: dict[tuple[str, ...], _Category], maps: MapFile, dataset: Path, say: Callable[[str], None]
) -> Results:
    found: dict[str, Evaluation] = {}
    failed: dict[str, str] = {}
    labels = [category.label for category in categories.values()]
    for key, category in sorted(categories.items()):
        # Two folders of one name are told apart by the folders above.
        name = category.label if labels.count(category.label) == 1 else legible("/".join(key))
        if category.failure:
            failed[name] = f"{name}: {category.failure}" if name else category.failure
        elif category.recipe is None or not category.images:
            failed[name] = (
                f"{legible('/'.join((str(dataset), *key)))}: no usable images in test/good or test/<type>"
            )
        else:
            found[name] = _evaluation(category, category.recipe, maps, say)
    if not categories:
        raise EvaluationError(f"{dataset}: no usable images in test/good or test/<type>; {labelled.LAYOUT}")
    if not found:
        raise EvaluationError("\n".join(failed.values()))
    return Results(found, failed)


def _evaluation(
    category: _Category, recipe: RecipeVersion, maps: MapFile, say: Callable[[str], None]
) -> Evaluation:
    size = recipe.size
    judged = [
        _Judged(scored, _mask(scored, name, category.masks, size, say))
        for name, scored in sorted(category.images.items())
    ]
    good = [one for one in judged if one.scored.kind == GOOD]
    threshold = category.threshold
    per_type = {GOOD: _figures(good, len(good), threshold, maps, size)} if good else {}
    for kind in sorted({one.scored.kind for one in judged} - {GOOD}):
        own = [one for one in judged if one.scored.kind == kind]
        per_type[kind] = _figures([*good, *own], len(own), threshold, maps, size)
    return Evaluation(
        recipe=recipe.name,
        recipe_sha=recipe.sha,
        threshold=threshold,
        overall=_figures(judged, len(judged), threshold, maps, size),
        per_type=per_type,
        ms_per_image=round(1000 * category.seconds / len(judged), 2),
        no_part=sum(one.scored.empty for one in judged),
    )


def _mask(
    scored: _Scored,
    name: PurePosixPath,
    masks: dict[PurePosixPath, _Drawn],
    size: Size,
    say: Callable[[str], None],
) -> NDArray[np.uint8] | None:
    """Where the defect is; nowhere on a good image, None when nobody drew it as it should be."""
    if scored.kind == GOOD:
        return np.packbits(np.zeros(size, np.bool_))
    stem = name.with_suffix("")
    drawn = masks.get(stem.with_name(f"{stem.name}_mask")) or masks.get(stem)
    if drawn is None:
        say(f"no mask: {scored.shown}: left out of pixel_auroc and pro")
        return None
    (rows, columns), (of_rows, of_columns) = drawn.shape, scored.shape
    if abs(rows * of_columns / (columns * of_rows) - 1) > _SAME_SHAPE:
        say(
            f"mask of another shape: {drawn.shown}: {columns}x{rows}, its image {of_columns}x{of_rows}: "
            "left out of pixel_auroc and pro"
        )
        return None
    if not drawn.packed.any():
        say(f"empty mask: {drawn.shown}: left out of pixel_auroc and pro")
        return None
    return drawn.packed


def _figures(judged: Sequence[_Judged], images: int, threshold: float, maps: MapFile, size: Size) -> Figures:
    good = np.array([one.scored.score for one in judged if one.scored.kind == GOOD])
    bad = np.array([one.scored.score for one in judged if one.scored.kind != GOOD])
    pixel_auroc, pro = _pixel_figures(judged, maps, size)
    return Figures(
        images=images,
        image_auroc=auroc(good, bad) if len(good) and len(bad) else None,
        pixel_auroc=pixel_auroc,
        pro=pro,
        overkill=_share(not one.scored.passes(threshold) for one in judged if one.scored.kind == GOOD),
        escape=_share(one.scored.passes(threshold) for one in judged if one.scored.kind != GOOD),
    )


def _share(told: Iterable[bool]) -> float | None:
    values = list(told)
    return sum(values) / len(values) if values else None


def _pixel_figures(
    judged: Sequence[_Judged], maps: MapFile, size: Size
) -> tuple[float, float] | tuple[None, None]:
    """Pixel AUROC and PRO; None without a defective pixel or without a defect-free one."""
    masked = [(one.scored.map_at, one.mask) for one in judged if one.mask is not None]
    # Filled and sorted in place: of a large set, a second copy might not fit.
    pixels = size[0] * size[1]
    free = sum(pixels - int(np.unpackbits(mask, count=pixels).sum()) for _, mask in masked)
    negatives = np.empty(free, np.float32)
    regions: list[NDArray[np.float32]] = []
    filled = 0
    for place, packed in masked:
        anomaly = maps.get(place, size)
        mask = np.unpackbits(packed, count=pixels).reshape(size).astype(np.bool_)
        regions += regions_of(anomaly, mask)
        values = anomaly[~mask]
        negatives[filled : filled + len(values)] = values
        filled += len(values)
    if not regions or not filled:
        return None, None
    negatives.sort()
    return auroc(negatives, np.concatenate(regions)), per_region_overlap(negatives, regions)
