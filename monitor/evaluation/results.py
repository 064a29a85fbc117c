"""The figures of an evaluation, as a dictionary for JSON and as a table.

This module knows nothing of how the figures are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIGURES = ("image_auroc", "pixel_auroc", "pro", "overkill", "escape")


@dataclass(frozen=True)
class Figures:
    """The figures of a set of images; None where there are no images, or no masks, for a figure."""

    images: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    overkill: float | None
    """The share of good images that the line would reject: their score is above the threshold."""
    escape: float | None
    """The share of defective images that the line would pass: their score is not above the threshold, or the
    presence gate finds no part."""

    def as_dict(self) -> dict[str, float | None]:
        return {"images": self.images, **{name: getattr(self, name) for name in FIGURES}}


@dataclass(frozen=True)
class Share:
    """A share that was counted on images, with its exact 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_percent(self.value)} % ({_percent(self.low)} to {_percent(self.high)} %)"


@dataclass(frozen=True)
class MeasuredPoint:
    """What one of the recipe's thresholds does on this data set."""

    requested: float
    """The rate of overkill that the threshold was made for."""
    threshold: float
    guarantee: float | None
    """The rate of overkill that the recipe guarantees; None where it guarantees none."""
    overkill: Share | None
    """None without good images."""
    escape: Share | None
    """None without defective images."""
    escape_per_type: Mapping[str, Share]

    def as_dict(self) -> dict[str, object]:
        return {
            "requested": self.requested,
            "threshold": self.threshold,
            "guarantee": self.guarantee,
            **_ends("overkill", self.overkill),
            **_ends("escape", self.escape),
            "per_type": {name: _ends("escape", share) for name, share in self.escape_per_type.items()},
        }


@dataclass(frozen=True)
class Evaluation:
    """The figures of one category with one recipe."""

    recipe: str
    recipe_sha: str
    threshold: float
    overall: Figures
    per_type: dict[str, Figures]
    """By type of defect, its images together with the good ones, and `good` by itself. `images` counts the
    type's own images."""
    ms_per_image: float
    """The mean time to score one image by itself, without reading its file."""
    no_part: int = 0
    """The number of images in which the recipe's presence gate finds no part."""
    operating_points: tuple[MeasuredPoint, ...] = ()
    """One for each threshold that the recipe states."""

    def as_dict(self) -> dict[str, object]:
        """The figures for `--json`."""
        return {
            "recipe": self.recipe,
            "recipe_sha": self.recipe_sha,
            "threshold": self.threshold,
            **self.overall.as_dict(),
            "per_type": {name: figures.as_dict() for name, figures in self.per_type.items()},
            "ms_per_image": self.ms_per_image,
            "no_part": self.no_part,
            "operating_points": [point.as_dict() for point in self.operating_points],
        }

    def table(self) -> str:
        """The figures as text."""
        rows = [["", "images", *FIGURES]]
        for name, figures in [*self.per_type.items(), ("all", self.overall)]:
            values = figures.as_dict()
            rows.append([name, str(figures.images), *(format_figure(values[column]) for column in FIGURES)])
        passed = f", {self.no_part} passed as no_part" if self.no_part else ""
        summary = f"threshold {self.threshold:.4g}, {self.ms_per_image:.1f} ms an image{passed}"
        lines = [align_columns(rows), summary]
        if self.operating_points:
            lines.append(points_table(self.operating_points))
        return "\n".join(lines)


@dataclass(frozen=True)
class Results:
    """The evaluations of a data set, by category; a category at the data set's top has the name ""."""

    categories: dict[str, Evaluation]
    failed: dict[str, str]
    """By category that could not be evaluated, one line with the reason and the fix."""

    @property
    def single(self) -> Evaluation | None:
        """The evaluation of a data set of one category; None for several categories."""
        if len(self.categories) + len(self.failed) > 1:
            return None
        return next(iter(self.categories.values()))


def points_table(points: Sequence[MeasuredPoint]) -> str:
    """What each of the recipe's thresholds does, as text."""
    rows = [
        ["overkill asked for", "threshold", "guaranteed", "overkill (false reject)", "escape (missed defect)"]
    ]
    for point in points:
        guarantee = "-" if point.guarantee is None else f"at most {_percent(point.guarantee)} %"
        shares = ["-" if share is None else str(share) for share in (point.overkill, point.escape)]
        rows.append([f"{_percent(point.requested)} %", f"{point.threshold:.4g}", guarantee, *shares])
    return (
        "These images at each of the recipe's thresholds, with the interval that holds the true share with "
        f"95 % confidence:\n{align_columns(rows)}"
    )


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as text: the first column flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )


def format_figure(value: float | None) -> str:
    """A figure as text; - where there is none."""
    return "-" if value is None else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _ends(name: str, share: Share | None) -> dict[str, float | None]:
    """A share and the ends of its interval, by the keys `name`, `name`_low and `name`_high."""
    values = (None, None, None) if share is None else (share.value, share.low, share.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
