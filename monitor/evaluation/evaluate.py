"""Measures recipes on labelled images in MVTec AD's layout, in the figures that papers print.

Verdicts are the line's: an image in which the recipe's presence gate finds no part is passed, whatever its
score, so a defect in it has escaped. AUROC and PRO are computed from scores and maps, which every image gets
here.

Anomaly maps lie on disk until their masks are read. In memory is one float32 for each defect-free pixel of a
category: 0.5 GB for 2,000 images at 256x256 pixels. This module never changes a recipe: a threshold comes
from good images alone.
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
from monitor.evaluation.auroc_pro import Mask, auroc, per_region_overlap, regions_of
from monitor.evaluation.dataset import LAYOUT, DatasetError, Entry, FileKind, category_name, list_entries
from monitor.evaluation.map_store import MapStore, MapStoreError, open_map_store
from monitor.evaluation.results import Evaluation, Figures, Results
from monitor.images.preprocessing import Size
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import FILE, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.system.printable import clean_line, clean_name
from monitor.system.progress import SILENT, Progress
from monitor.verdict import Verdict, judge

GOOD = "good"
_SAME_SHAPE = 0.02
"""The largest relative difference between a mask's and its image's aspect ratio; rounding causes one when
both were resized."""


class EvaluationError(LineMonitorError):
    """The data set can't be evaluated. The message has one line with the fix for each category."""


def evaluate(
    *,
    recipe: Path,
    dataset: Path,
    say: Callable[[str], None],
    progress: Progress = SILENT,
    device: str = "auto",
) -> Results:
    """Scores every category's test/ and compares the maps with its ground_truth/. Raises EvaluationError.

    `dataset` is a folder or an archive, as in `monitor.evaluation.dataset.list_entries`. `recipe` is used for
    all its categories; if there is no recipe of that name, each category has its own, named
    <recipe>-<category>. Maps and masks are compared at the network's input resolution, as in the official
    code. An unusable image or mask is left out of the figures that need it, and gives `say` one line. A
    category that can't be evaluated does not stop the others; it is an error only if none is left.
    """
    if not (recipe / FILE).is_file() and not any(recipe.parent.glob(f"{recipe.name}-*/{FILE}")):
        raise EvaluationError(
            f"no recipe {recipe.name!r} and none {recipe.name + '-<category>'!r} in {recipe.parent}: train it"
        )
    scorers = _CategoryScorers(recipe, device)
    categories: dict[tuple[str, ...], _Category] = {}
    remarks: list[str] = []
    try:
        with open_map_store() as maps:
            for entry in list_entries(dataset):
                key = entry.path.category
                if key not in categories:
                    categories[key] = _Category(clean_name(category_name(key)))
                category = categories[key]
                if not category.failure:
                    _add_entry(entry, category, scorers, maps, remarks.append)
                progress.update("evaluate", entry.done, entry.total, entry.unit)
            for line in remarks:
                say(line)
            return _results(categories, maps, dataset, say)
    except (DatasetError, MapStoreError) as error:
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
    if found.single is None:
        raise EvaluationError(f"{dataset}: more than one category: give one of them")
    return found.single


@dataclass(frozen=True, slots=True)
class _ScoredImage:
    """An image of test/ with its score; its map lies in the map store."""

    defect_type: str
    score: float
    shape: tuple[int, int]
    """The rows and columns of its file."""
    map_offset: int
    shown_name: str
    is_empty: bool = False
    """Whether the recipe's presence gate finds no part."""

    def passes(self, threshold: float) -> bool:
        """Whether the line would pass it."""
        return self.is_empty or judge(self.score, threshold)[0] is Verdict.PASS


@dataclass(slots=True)
class _Category:
    """The images and masks of a category that are read so far; they come in any order."""

    name: str
    recipe: RecipeVersion | None = None
    threshold: float = 0.0
    images: dict[PurePosixPath, _ScoredImage] = field(default_factory=dict)
    masks: dict[PurePosixPath, _MaskFile] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _MaskFile:
    """A mask of ground_truth/, packed to save memory."""

    packed: NDArray[np.uint8]
    """The mask at the network's size, one bit a pixel."""
    shape: tuple[int, int]
    """The rows and columns of its file."""
    shown_name: str


@dataclass(frozen=True, slots=True)
class _LabelledImage:
    """A scored image with its mask."""

    scored: _ScoredImage
    mask: NDArray[np.uint8] | None
    """One bit a pixel; None for a defective image without a usable mask."""

    @property
    def is_good(self) -> bool:
        return self.scored.defect_type == GOOD


class _CategoryScorers:
    """The scorer of a category's recipe; only the last one is kept in memory."""

    def __init__(self, recipe: Path, device: str) -> None:
        self._recipe = recipe
        self._device = device
        self._path: Path | None = None
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
        if self._scorer is None or path != self._path:
            scorer = Scorer(RecipeVersion.load(path), device=self._device)
            scorer.warm_up()
            self._path, self._scorer = path, scorer
        return self._scorer


def _slug(category: str) -> str:
    """A category's name as part of a recipe's name: metal_nut becomes metal-nut."""
    return re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")


def _add_entry(
    entry: Entry, category: _Category, scorers: _CategoryScorers, maps: MapStore, say: Callable[[str], None]
) -> None:
    """Adds an image or a mask to its category. Raises DatasetError, MapStoreError."""
    try:
        scorer = scorers.scorer(category.name)
    except RecipeError as error:
        category.failure = str(error)
        return
    category.recipe, category.threshold = scorer.recipe, scorer.threshold
    path = entry.path
    try:
        image = image_file.decode(entry.content())
    except ImageError as error:
        consequence = "skipped" if path.kind is FileKind.IMAGE else "no mask"
        say(f"{consequence}: {clean_line(entry.shown_name)}: {error}")
        return
    if path.kind is FileKind.MASK:
        if path.name.suffix.lower() == ".png":
            packed = np.packbits(resize_mask(image, scorer.recipe.size))
            mask = _MaskFile(packed, _shape(image), entry.shown_name)
            category.masks[path.name.with_suffix("")] = mask
        return
    began = time.perf_counter()
    (inspected,) = scorer.inspect([image])
    # An image without a part is scored as well: its score and its map count in the figures.
    result = scorer.score([image])[0] if inspected is None else inspected
    category.seconds += time.perf_counter() - began
    if not math.isfinite(result.score):
        category.failure = f"{entry.shown_name}: its score is not finite: train the recipe again"
        return
    category.images[path.name] = _ScoredImage(
        clean_name(path.defect_type),
        result.score,
        _shape(image),
        maps.put(result.anomaly_map),
        entry.shown_name,
        inspected is None,
    )
    if inspected is None and path.defect_type != GOOD:
        say(f"no part: {entry.shown_name}: the presence gate passes it unscored, with its defect")


def resize_mask(drawn: Image, size: Size) -> Mask:
    """A mask's file, (H, W[, 3]) and 0 where there is no defect, at the network's size.

    It is resized bilinearly, and every pixel above 0 is defective, as in the official code. Bilinear sampling
    can miss a small defect completely; such a mask is resized by averaging.
    """
    flat = drawn if drawn.ndim == 2 else drawn.max(axis=2)
    resized = cv2.resize(flat, size[::-1], interpolation=cv2.INTER_LINEAR)
    if not resized.any():
        # As float32: the mean of a few white pixels among black ones rounds to 0 in uint8.
        resized = cv2.resize(flat.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(resized > 0)


def _shape(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _results(
    categories: dict[tuple[str, ...], _Category], maps: MapStore, dataset: Path, say: Callable[[str], None]
) -> Results:
    evaluations: dict[str, Evaluation] = {}
    failed: dict[str, str] = {}
    names = [category.name for category in categories.values()]
    for key, category in sorted(categories.items()):
        # Categories of the same name are told apart by the folders above them.
        name = category.name if names.count(category.name) == 1 else clean_name("/".join(key))
        if category.failure:
            failed[name] = f"{name}: {category.failure}" if name else category.failure
        elif category.recipe is None or not category.images:
            failed[name] = (
                f"{clean_name('/'.join((str(dataset), *key)))}: no usable images in test/good or test/<type>"
            )
        else:
            evaluations[name] = _evaluation(category, category.recipe, maps, say)
    if not categories:
        raise EvaluationError(f"{dataset}: no usable images in test/good or test/<type>; {LAYOUT}")
    if not evaluations:
        raise EvaluationError("\n".join(failed.values()))
    return Results(evaluations, failed)


def _evaluation(
    category: _Category, recipe: RecipeVersion, maps: MapStore, say: Callable[[str], None]
) -> Evaluation:
    size, threshold = recipe.size, category.threshold
    images = [
        _LabelledImage(scored, _mask(scored, name, category.masks, size, say))
        for name, scored in sorted(category.images.items())
    ]
    good = [image for image in images if image.is_good]
    per_type = {GOOD: _figures(good, len(good), threshold, maps, size)} if good else {}
    for defect_type in sorted({image.scored.defect_type for image in images} - {GOOD}):
        defective = [image for image in images if image.scored.defect_type == defect_type]
        per_type[defect_type] = _figures([*good, *defective], len(defective), threshold, maps, size)
    return Evaluation(
        recipe=recipe.name,
        recipe_sha=recipe.sha,
        threshold=threshold,
        overall=_figures(images, len(images), threshold, maps, size),
        per_type=per_type,
        ms_per_image=round(1000 * category.seconds / len(images), 2),
        no_part=sum(image.scored.is_empty for image in images),
    )


def _mask(
    scored: _ScoredImage,
    name: PurePosixPath,
    masks: dict[PurePosixPath, _MaskFile],
    size: Size,
    say: Callable[[str], None],
) -> NDArray[np.uint8] | None:
    """The image's mask, one bit a pixel: all 0 for a good image, None where there is no usable mask."""
    if scored.defect_type == GOOD:
        return np.packbits(np.zeros(size, np.bool_))
    stem = name.with_suffix("")
    mask = masks.get(stem.with_name(f"{stem.name}_mask")) or masks.get(stem)
    if mask is None:
        say(f"no mask: {scored.shown_name}: left out of pixel_auroc and pro")
        return None
    (rows, columns), (image_rows, image_columns) = mask.shape, scored.shape
    if abs(rows * image_columns / (columns * image_rows) - 1) > _SAME_SHAPE:
        say(
            f"mask of another shape: {mask.shown_name}: {columns}x{rows}, its image "
            f"{image_columns}x{image_rows}: left out of pixel_auroc and pro"
        )
        return None
    if not mask.packed.any():
        say(f"empty mask: {mask.shown_name}: left out of pixel_auroc and pro")
        return None
    return mask.packed


def _figures(
    images: Sequence[_LabelledImage], count: int, threshold: float, maps: MapStore, size: Size
) -> Figures:
    """The figures of these images; `count` is the number of images that they are stated for."""
    good = [image.scored for image in images if image.is_good]
    defective = [image.scored for image in images if not image.is_good]
    pixel_auroc, pro = _pixel_figures(images, maps, size)
    return Figures(
        images=count,
        image_auroc=auroc(_scores(good), _scores(defective)) if good and defective else None,
        pixel_auroc=pixel_auroc,
        pro=pro,
        overkill=_share(not scored.passes(threshold) for scored in good),
        escape=_share(scored.passes(threshold) for scored in defective),
    )


def _scores(images: Iterable[_ScoredImage]) -> NDArray[np.float64]:
    return np.array([image.score for image in images])


def _share(values: Iterable[bool]) -> float | None:
    """The share of True; None without values."""
    found = list(values)
    return sum(found) / len(found) if found else None


def _pixel_figures(
    images: Sequence[_LabelledImage], maps: MapStore, size: Size
) -> tuple[float, float] | tuple[None, None]:
    """Pixel AUROC and PRO; None without a defective pixel or without a defect-free one."""
    masked = [(image.scored.map_offset, image.mask) for image in images if image.mask is not None]
    pixels = size[0] * size[1]
    defect_free = sum(pixels - int(np.unpackbits(mask, count=pixels).sum()) for _, mask in masked)
    # Filled and sorted in place: a second copy of a large data set might not fit into memory.
    negatives = np.empty(defect_free, np.float32)
    regions: list[NDArray[np.float32]] = []
    filled = 0
    for map_offset, packed in masked:
        anomaly_map = maps.get(map_offset, size)
        mask = np.unpackbits(packed, count=pixels).reshape(size).astype(np.bool_)
        regions += regions_of(anomaly_map, mask)
        values = anomaly_map[~mask]
        negatives[filled : filled + len(values)] = values
        filled += len(values)
    if not regions or not filled:
        return None, None
    negatives.sort()
    return auroc(negatives, np.concatenate(regions)), per_region_overlap(negatives, regions)
