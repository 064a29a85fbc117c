"""How good a recipe is on labelled images in MVTec AD's layout, in the figures that papers print.

Exact, without sampling or binning: every curve is integrated as the piecewise linear curve that it is. Must
never change a recipe: the threshold comes from good images alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from monitor import images as image_files
from monitor.images import ImageError
from monitor.progress import SILENT, Progress
from monitor.recipe import Recipe
from monitor.runtime import Scorer
from monitor.verdict import Verdict, judge

GOOD = "good"
PRO_LIMIT = 0.3
"""False-positive rate up to which per-region overlap is integrated (Bergmann et al. 2020, section 6)."""

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


class EvaluationError(Exception):
    """The data set can't be used; the message is one line with the fix."""


@dataclass(frozen=True)
class Figures:
    """What is said of a set of images; None where it can't be said: no such images, or no masks."""

    images: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    overkill: float | None
    """The share of good images above the threshold."""
    escape: float | None
    """The share of defective images not above it."""

    def as_dict(self) -> dict[str, float | int | None]:
        return {
            "images": self.images,
            "image_auroc": self.image_auroc,
            "pixel_auroc": self.pixel_auroc,
            "pro": self.pro,
            "overkill": self.overkill,
            "escape": self.escape,
        }


@dataclass(frozen=True)
class Evaluation:
    recipe: str
    recipe_sha: str
    threshold: float
    overall: Figures
    per_type: dict[str, Figures]
    """Each type of defect with the good images beside it; `good` by itself."""
    ms_per_image: float
    """Mean of scoring one image at a time, without reading its file."""

    def as_dict(self) -> dict[str, object]:
        """The contract's JSON."""
        return {
            "recipe": self.recipe,
            "recipe_sha": self.recipe_sha,
            "threshold": self.threshold,
            **self.overall.as_dict(),
            "per_type": {name: figures.as_dict() for name, figures in self.per_type.items()},
            "ms_per_image": self.ms_per_image,
        }

    def table(self) -> str:
        """The same for people."""
        columns = ("images", "image_auroc", "pixel_auroc", "pro", "overkill", "escape")
        rows: list[tuple[str, ...]] = [("", *columns)]
        for name, figures in [*self.per_type.items(), ("all", self.overall)]:
            values = figures.as_dict()
            rows.append((name, *(_shown(values[column]) for column in columns)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
                ]
            )
            for row in rows
        ]
        return "\n".join([*lines, f"threshold {self.threshold:.4g}, {self.ms_per_image:.1f} ms an image"])


@dataclass(frozen=True)
class _Scored:
    kind: str
    score: float
    anomaly_map: NDArray[np.float32]
    mask: Mask | None
    """(size, size); None for a defective image without one."""


def evaluate_recipe(
    *,
    recipe: Path,
    dataset: Path,
    say: Callable[[str], None],
    progress: Progress = SILENT,
    device: str = "auto",
) -> Evaluation:
    """Scores `dataset`/test and compares with `dataset`/ground_truth. Raises EvaluationError, RecipeError.

    Maps and masks are compared at the network's input resolution, as in the official code. Images that
    can't be read, or have no mask where they need one, are named to `say` and left out of what needs them.
    """
    loaded = Recipe.load(recipe)
    scorer = loaded.scorer(device=device)
    scorer.warm_up()
    scored, seconds = _score(scorer, dataset, say, progress)
    good = [one for one in scored if one.kind == GOOD]
    kinds = sorted({one.kind for one in scored} - {GOOD})
    per_type = {GOOD: _figures(good, scorer.threshold)} if good else {}
    for kind in kinds:
        of_kind = [one for one in scored if one.kind == kind]
        per_type[kind] = _figures([*good, *of_kind], scorer.threshold)
    return Evaluation(
        recipe=loaded.name,
        recipe_sha=loaded.sha,
        threshold=scorer.threshold,
        overall=_figures(scored, scorer.threshold),
        per_type=per_type,
        ms_per_image=round(1000 * seconds / len(scored), 2),
    )


def auroc(negatives: Floats, positives: Floats) -> float:
    """The chance that a positive scores above a negative, ties counting half: the area under the ROC curve.

    Both 1-d and not empty.
    """
    return float(_area(np.sort(negatives), positives, 1.0).mean())


def per_region_overlap(negatives: Floats, regions: Sequence[Floats], limit: float = PRO_LIMIT) -> float:
    """PRO: the share of a defective region that is found, averaged over regions and over false-positive
    rates from 0 to `limit` (Bergmann et al. 2020, section 6).

    `negatives` are the map's values on all defect-free pixels, `regions` those on each connected defect;
    neither is empty. The official code rescales the curve and so reads higher.
    """
    ordered = np.sort(negatives)
    return float(np.mean([_area(ordered, region, limit).mean() for region in regions]) / limit)


def regions_of(anomaly_map: NDArray[np.float32], mask: Mask) -> list[NDArray[np.float32]]:
    """The map's values on each connected defect of the mask; corners connect."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [anomaly_map[labels == label] for label in range(1, count)]


def _area(ordered: Floats, positives: Floats, limit: float) -> NDArray[np.float64]:
    """For each positive the area from 0 to `limit` under its own curve of being found over the false-positive
    rate: a step, or among ties a ramp, up to 1.

    Any average of positives, over pixels or over regions, has the average of these areas under its curve;
    so no curve has to be drawn.
    """
    count = len(ordered)
    above = (count - np.searchsorted(ordered, positives, side="right")) / count
    reached = (count - np.searchsorted(ordered, positives, side="left")) / count
    width = reached - above
    ramp_end = np.clip(limit, above, reached)
    ramp = np.divide((ramp_end - above) ** 2, 2 * width, out=np.zeros(len(positives)), where=width > 0)
    return np.asarray(ramp + np.maximum(0.0, limit - reached), np.float64)


def _figures(scored: Sequence[_Scored], threshold: float) -> Figures:
    good = np.array([one.score for one in scored if one.kind == GOOD])
    bad = np.array([one.score for one in scored if one.kind != GOOD])
    passed = [judge(one.score, threshold)[0] is Verdict.PASS for one in scored]
    escapes = [ok for ok, one in zip(passed, scored, strict=True) if one.kind != GOOD]
    overkills = [not ok for ok, one in zip(passed, scored, strict=True) if one.kind == GOOD]
    masked = [(one.anomaly_map, one.mask) for one in scored if one.mask is not None]
    negatives = np.concatenate([anomaly[~mask] for anomaly, mask in masked] or [np.empty(0, np.float32)])
    regions = [region for anomaly, mask in masked for region in regions_of(anomaly, mask)]
    with_pixels = len(negatives) > 0 and len(regions) > 0
    return Figures(
        images=len(scored),
        image_auroc=auroc(good, bad) if len(good) and len(bad) else None,
        pixel_auroc=auroc(negatives, np.concatenate(regions)) if with_pixels else None,
        pro=per_region_overlap(negatives, regions) if with_pixels else None,
        overkill=float(np.mean(overkills)) if overkills else None,
        escape=float(np.mean(escapes)) if escapes else None,
    )


def _score(
    scorer: Scorer, dataset: Path, say: Callable[[str], None], progress: Progress
) -> tuple[list[_Scored], float]:
    """Every usable image, and the seconds that scoring them took. Raises EvaluationError."""
    test = dataset / "test"
    try:
        files = [file for file in image_files.find(test) if file.parent != test]
    except ImageError as error:
        raise EvaluationError(
            f"{test}: {error}; a data set has test/good, test/<type> and ground_truth/<type>"
        ) from None
    scored: list[_Scored] = []
    unusable: list[str] = []
    seconds = 0.0
    for done, file in enumerate(files, start=1):
        for _, _, image in image_files.readable([file], unusable.append):
            began = time.perf_counter()
            result = scorer.score([image])[0]
            seconds += time.perf_counter() - began
            if not math.isfinite(result.score):
                raise EvaluationError(f"{file}: its score is not finite: train the recipe again")
            kind = file.relative_to(test).parts[0]
            mask = _mask(dataset, file, kind, scorer.recipe.size, unusable.append)
            scored.append(_Scored(kind, result.score, result.anomaly_map, mask))
        progress.update("evaluate", done, len(files))
    for line in unusable:
        say(line)
    if not scored:
        raise EvaluationError(f"{test}: no usable images in test/good or test/<type>")
    return scored, seconds


def _mask(dataset: Path, file: Path, kind: str, size: int, say: Callable[[str], None]) -> Mask | None:
    """Where the defect is; nowhere on a good image, None when nobody drew it.

    Squashed bilinearly, and every pixel with any of the defect counts, as in the official code.
    """
    if kind == GOOD:
        return np.zeros((size, size), np.bool_)
    folder = dataset / "ground_truth" / file.relative_to(dataset / "test").parent
    for name in (f"{file.stem}_mask.png", f"{file.stem}.png"):
        if not (folder / name).is_file():
            continue
        try:
            drawn = image_files.read(folder / name)
        except ImageError as error:
            raise EvaluationError(f"{folder / name}: {error}") from None
        flat = drawn if drawn.ndim == 2 else drawn.max(axis=2)
        return np.asarray(cv2.resize(flat, (size, size), interpolation=cv2.INTER_LINEAR) > 0)
    say(f"no mask: {file}: left out of pixel_auroc and pro")
    return None


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
