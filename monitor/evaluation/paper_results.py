"""The paper's table on MVTec AD: a row for each category, our figures beside the published ones, and means.

The published figures are those that the paper's authors state for their released checkpoints (ResNet-18,
256x256): README of github.com/gdwang08/STFPM, commit da14403. This module must hold no figure from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monitor.evaluation.results import FIGURES, Evaluation, Results, align_columns, format_figure

SOURCE = "README of github.com/gdwang08/STFPM at da14403, for the paper's checkpoints"
COMPARED = ("image_auroc", "pixel_auroc", "pro")


@dataclass(frozen=True, slots=True)
class PublishedFigures:
    """A category's figures. The authors' PRO is rescaled to run from 0 to 1, so it is higher than ours."""

    image_auroc: float
    pixel_auroc: float
    pro: float


PUBLISHED = {
    "carpet": PublishedFigures(0.964286, 0.990292, 0.966061),
    "grid": PublishedFigures(0.982456, 0.989622, 0.963767),
    "leather": PublishedFigures(0.950747, 0.990707, 0.956661),
    "tile": PublishedFigures(0.982323, 0.969067, 0.896640),
    "wood": PublishedFigures(0.996491, 0.964588, 0.900518),
    "bottle": PublishedFigures(1.000000, 0.987894, 0.959157),
    "cable": PublishedFigures(0.935532, 0.957504, 0.894954),
    "capsule": PublishedFigures(0.893498, 0.985730, 0.895790),
    "hazelnut": PublishedFigures(1.000000, 0.984715, 0.952182),
    "metal_nut": PublishedFigures(0.983382, 0.971789, 0.948197),
    "pill": PublishedFigures(0.951173, 0.975505, 0.965973),
    "screw": PublishedFigures(0.894651, 0.988481, 0.948661),
    "toothbrush": PublishedFigures(0.897222, 0.989551, 0.926844),
    "transistor": PublishedFigures(0.939167, 0.819404, 0.880923),
    "zipper": PublishedFigures(0.961397, 0.987756, 0.868873),
}

PRINTED_MEANS = PublishedFigures(0.955, 0.970, 0.921)
"""The means over the 15 categories that the paper itself prints (arXiv 2103.04257v3)."""


def as_dict(results: Results) -> dict[str, object]:
    """The figures for `--json`: each category's, the published ones beside them, and the means."""
    rows = [
        {"category": category, **evaluation.as_dict(), "paper": _published(category)}
        for category, evaluation in results.categories.items()
    ]
    return {
        "categories": rows,
        "mean": {name: _mean(_ours(results, name)) for name in FIGURES},
        "paper": {
            "source": SOURCE,
            "mean": {name: _paper_mean(results, name) for name in COMPARED},
            "printed_mean_of_15": {name: getattr(PRINTED_MEANS, name) for name in COMPARED},
        },
        "failed": dict(results.failed),
    }


def format_table(results: Results) -> str:
    """The figures as text."""
    known = any(category in PUBLISHED for category in results.categories)
    header = ["", "images"]
    for name in FIGURES:
        header += [name, "paper"] if known and name in COMPARED else [name]
    rows = [header]
    for category, evaluation in results.categories.items():
        rows.append([category, str(evaluation.overall.images), *_cells(evaluation, category, known)])
    images = sum(evaluation.overall.images for evaluation in results.categories.values())
    means = [f"mean of {len(results.categories)}", str(images)]
    for name in FIGURES:
        means.append(format_figure(_mean(_ours(results, name))))
        if known and name in COMPARED:
            means.append(format_figure(_paper_mean(results, name)))
    lines = [align_columns([*rows, means])]
    if known:
        printed = ", ".join(f"{getattr(PRINTED_MEANS, name):.3f}" for name in COMPARED)
        lines.append(
            f"paper: {SOURCE}; their PRO is rescaled, so it is higher. The paper prints means of {printed}"
        )
    return "\n".join(lines)


def _cells(evaluation: Evaluation, category: str, known: bool) -> Iterable[str]:
    ours, theirs = evaluation.overall.as_dict(), _published(category)
    for name in FIGURES:
        yield format_figure(ours[name])
        if known and name in COMPARED:
            yield format_figure(theirs[name] if theirs else None)


def _published(category: str) -> dict[str, float] | None:
    figures = PUBLISHED.get(category)
    return {name: getattr(figures, name) for name in COMPARED} if figures else None


def _ours(results: Results, name: str) -> list[float | None]:
    return [evaluation.overall.as_dict()[name] for evaluation in results.categories.values()]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _paper_mean(results: Results, name: str) -> float | None:
    """The published mean over the same categories as our mean; None where not all of them are published."""
    counted = [
        c for c, ours in zip(results.categories, _ours(results, name), strict=True) if ours is not None
    ]
    theirs = [_published(category) for category in counted]
    return None if None in theirs else _mean([figures[name] for figures in theirs if figures])
