"""Overkill and escape of labelled images at each of a recipe's thresholds.

It knows nothing of files, maps or how an image is scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from monitor.evaluation.intervals import exact_interval
from monitor.evaluation.results import MeasuredPoint, Share
from monitor.model.recipe_json import OperatingPoint


class JudgedImage(Protocol):
    """An image that the line would pass or reject."""

    def passes(self, threshold: float) -> bool:
        """Whether the line would pass it at that threshold."""
        ...


def measure_points(
    points: Iterable[OperatingPoint],
    good: Sequence[JudgedImage],
    defective: Mapping[str, Sequence[JudgedImage]],
) -> tuple[MeasuredPoint, ...]:
    """What each threshold does with the good images and with the defective ones of each type."""
    everything = [image for images in defective.values() for image in images]
    return tuple(
        MeasuredPoint(
            requested=point.overkill,
            threshold=point.threshold,
            guarantee=point.guarantee,
            overkill=_share(not image.passes(point.threshold) for image in good),
            escape=_escape(everything, point.threshold),
            escape_per_type={
                name: share
                for name, images in defective.items()
                if (share := _escape(images, point.threshold)) is not None
            },
        )
        for point in points
    )


def _escape(images: Iterable[JudgedImage], threshold: float) -> Share | None:
    return _share(image.passes(threshold) for image in images)


def _share(values: Iterable[bool]) -> Share | None:
    """The share of True with its interval; None without values."""
    found = list(values)
    if not found:
        return None
    low, high = exact_interval(sum(found), len(found))
    return Share(sum(found) / len(found), low, high)
