"""Measures recipes on labelled images, in the figures that papers print.

Verdicts are the line's: an image in which the recipe's presence gate finds no part is passed, whatever its
score, so a defect in it has escaped. AUROC and PRO are computed from scores and maps, which every image gets
here. Good images that the recipe was trained or calibrated on are left out, because new parts score higher.

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

import numpy as np
from numpy.typing import NDArray

from drivers import image_file
from drivers.image_file import Image, ImageError
from monitor.errors import LineMonitorError
from monitor.evaluation.auroc_pro import auroc, per_region_overlap, regions_of
from monitor.evaluation.dataset import (
    GOOD,
    LAYOUT,
    DatasetError,
    Entry,
    FileKind,
    category_name,
    list_entries,
)
from monitor.evaluation.map_store import MapStore, MapStoreError, open_map_store
from monitor.evaluation.masks import MaskFile, MaskSearch, PackedMask, empty_mask, read_mask
from monitor.evaluation.operating_points import measure_points
from monitor.evaluation.results import Evaluation, Figures, Results
from monitor.images.preprocessing import Size
from monitor.inference.backends import F32
from monitor.inference.scorer import Scorer
from monitor.model.image_mark import content_mark, known_marks
from monitor.model.in_force import find_in_force
from monitor.model.recipe_json import FILE, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.system.printable import clean_line, clean_name
from monitor.system.progress import SILENT, Progress
from monitor.verdict import Verdict, judge


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
    """Scores every category's test images and compares the maps with its masks. Raises EvaluationError.

    `dataset` is a folder or an archive, as in `monitor.evaluation.dataset.list_entries`. `recipe` is a
    recipe's folder or the document of one of its versions. It is used for all categories; if there is no
    recipe of that name, each category has its own, named <recipe>-<category>. Maps and masks are compared at
    the network's input resolution, as in the official code. An unusable image or mask is left out of the
    figures that need it, and gives `say` one line. A category that can't be evaluated does not stop the
    others; it is an error only if none is left.
    """
    if (
        recipe.suffix != ".json"
        and not (recipe / FILE).is_file()
        and not any(recipe.parent.glob(f"{recipe.name}-*/{FILE}"))
    ):
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
    masks: dict[PurePosixPath, MaskFile] = field(default_factory=dict)
    other_masks: list[str] = field(default_factory=list)
    """The names of files in ground_truth/ that are no PNG; they are not read."""
    known: frozenset[str] = frozenset()
    """The marks of the images that the recipe was trained or calibrated on."""
    known_good: int = 0
    """The number of good images that are left out because the recipe was trained or calibrated on them."""
    known_defective: int = 0
    """The number of images in the folders of defects that trained or calibrated the recipe as good ones."""
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _LabelledImage:
    """A scored image with its mask."""

    scored: _ScoredImage
    mask: PackedMask | None
    """None for a defective image without a usable mask."""

    @property
    def is_good(self) -> bool:
        return self.scored.defect_type == GOOD


class _CategoryScorers:
    """The scorer of a category's recipe in force, or of the version whose document is given; only the last
    one is kept in memory."""

    def __init__(self, recipe: Path, device: str) -> None:
        self._recipe = recipe
        self._device = device
        self._path: Path | None = None
        self._scorer: Scorer | None = None

    def scorer(self, category: str) -> Scorer:
        """Raises RecipeError."""
        path = self._recipe
        if category and path.suffix != ".json" and not (path / FILE).is_file():
            path = path.parent / f"{path.name}-{_slug(category)}"
            if not (path / FILE).is_file():
                raise RecipeError(
                    f"no recipe {path.name!r}: line-monitor train {path.name} --images {category}/train/good"
                )
        if self._scorer is None or path != self._path:
            document = path if path.suffix == ".json" else find_in_force(path).file
            # In float32, since the operating points are the reference's thresholds, and the figures must not
            # depend on what is fastest on this machine.
            scorer = Scorer(RecipeVersion.load(document), device=self._device, precision=F32)
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
    if category.recipe is None:
        category.recipe, category.threshold = scorer.recipe, scorer.threshold
        category.known = known_marks(scorer.recipe.document)
    path = entry.path
    if path.kind is FileKind.MASK:
        _add_mask(entry, category, scorer.recipe.size, say)
        return
    try:
        content = entry.content()
        image = image_file.decode(content)
    except ImageError as error:
        say(f"skipped: {clean_line(entry.shown_name)}: {error}")
        return
    if content_mark(content) in category.known:
        if path.defect_type == GOOD:
            category.known_good += 1
            return
        # A defect that was taken for a good part is an escape to be counted.
        category.known_defective += 1
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


def _add_mask(entry: Entry, category: _Category, size: Size, say: Callable[[str], None]) -> None:
    """Adds a mask to its category. Raises DatasetError."""
    name = clean_line(entry.shown_name)
    if entry.path.name.suffix.lower() != ".png":
        category.other_masks.append(name)
        return
    try:
        mask = read_mask(entry.content(), size, entry.shown_name)
    except ImageError as error:
        say(f"no mask: {name}: {error}")
    else:
        category.masks[entry.path.name.with_suffix("")] = mask


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
        for line in _known_lines(category):
            say(line)
        if category.failure:
            failed[name] = f"{name}: {category.failure}" if name else category.failure
        elif category.recipe is None or not category.images:
            failed[name] = _nothing_left(clean_name("/".join((str(dataset), *key))), category.known_good)
        else:
            evaluations[name] = _evaluation(category, category.recipe, maps, say)
    if not categories:
        raise EvaluationError(_nothing_left(str(dataset)))
    if not evaluations:
        raise EvaluationError("\n".join(failed.values()))
    return Results(evaluations, failed)


def _nothing_left(place: str, known: int = 0) -> str:
    """Why a data set has no image to score; the recipe was trained or calibrated on `known` of its images."""
    if known:
        return (
            f"{place}: the recipe was trained or calibrated on all usable images ({known}): give images of "
            "other parts"
        )
    return f"{place}: no usable images; {LAYOUT}"


def _evaluation(
    category: _Category, recipe: RecipeVersion, maps: MapStore, say: Callable[[str], None]
) -> Evaluation:
    size, threshold = recipe.size, category.threshold
    search = MaskSearch(category.masks)
    images = [
        _LabelledImage(scored, _mask(scored, name, search, size))
        for name, scored in sorted(category.images.items())
    ]
    good = [image for image in images if image.is_good]
    for line in search.remarks():
        say(f"{category.name}: {line}" if category.name else line)
    if category.other_masks:
        count, first = len(category.other_masks), category.other_masks[0]
        say(f"not read: {count} of ground_truth's files are no PNG, the first is {first}: save masks as PNG")
    per_type = {GOOD: _figures(good, len(good), threshold, maps, size)} if good else {}
    defective = {
        defect_type: [image for image in images if image.scored.defect_type == defect_type]
        for defect_type in sorted({image.scored.defect_type for image in images} - {GOOD})
    }
    for defect_type, bad in defective.items():
        per_type[defect_type] = _figures([*good, *bad], len(bad), threshold, maps, size)
    return Evaluation(
        recipe=recipe.name,
        recipe_sha=recipe.sha,
        threshold=threshold,
        overall=_figures(images, len(images), threshold, maps, size),
        per_type=per_type,
        ms_per_image=round(1000 * category.seconds / len(images), 2),
        no_part=sum(image.scored.is_empty for image in images),
        operating_points=measure_points(
            recipe.document.operating_points,
            [image.scored for image in good],
            {name: [image.scored for image in bad] for name, bad in defective.items()},
        ),
    )


def _mask(scored: _ScoredImage, name: PurePosixPath, search: MaskSearch, size: Size) -> PackedMask | None:
    """The image's mask; None where there is no usable one."""
    if scored.defect_type == GOOD:
        return empty_mask(size)
    return search.find(name, scored.shape, scored.shown_name)


def _known_lines(category: _Category) -> Iterable[str]:
    """Lines for the user about images that the category's recipe was trained or calibrated on."""
    where = f"{category.name}: " if category.name else ""
    if category.known_good:
        none_left = not any(image.defect_type == GOOD for image in category.images.values())
        yield (
            f"{where}left out: {category.known_good} good images that the recipe was trained or calibrated on"
            ", because new parts score higher"
            + (none_left * "; no good image is left, so overkill is not known")
        )
    if category.known_defective:
        yield (
            f"{where}warning: the recipe was trained or calibrated on {category.known_defective} images of "
            "defects as good parts: take them out of its images and train it again"
        )


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
