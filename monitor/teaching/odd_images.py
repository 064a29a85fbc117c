"""Which images of good parts stand out: near copies, blurred, darker or lighter ones. Pure rules.

It knows nothing of files. An image is compared with the others of its set, because what is sharp and what is
bright depends on the part and its lamp. The oddities only point a person to images; they remove none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.training.parts import Thumbnail, find_parts, make_thumbnail

LEAST_COMPARED = 10
"""With fewer images nothing is usual, so none stands out by its light or sharpness."""
_SIDE = 512
"""Pixels of the longer side at which sharpness is measured: training sees no finer detail."""
_OUTLYING = 3.0
"""A value stands out when it is further from the median than this many standard deviations, estimated by the
median of the distances, so that odd images don't hide each other. Of normally distributed values 1 in 370
stands out by chance; with twice as many deviations nothing darker than the others could stand out where good
parts differ much in light."""
_LEAST_LIGHT = 6.0
"""Grey levels of 0 to 255; a smaller difference of light from the median never stands out."""
_LEAST_BLUR = 1.0
"""In powers of two of the sharpness: never stands out with more than half of the usual sharpness."""
_TO_DEVIATION = 1.4826
"""The standard deviation of normally distributed values, divided by their median distance from the median."""


class Oddity(StrEnum):
    """Why an image stands out."""

    COPY = "copy"
    BLURRED = "blurred"
    DARKER = "darker"
    LIGHTER = "lighter"
    UNREADABLE = "unreadable"
    """Its file can't be read or measured."""
    ODDEST = "oddest"
    """It scored highest of all good parts in the last teaching."""

    @property
    def text(self) -> str:
        return {
            Oddity.COPY: "near copy of an earlier image",
            Oddity.BLURRED: "blurred",
            Oddity.DARKER: "darker than the others",
            Oddity.LIGHTER: "lighter than the others",
            Oddity.UNREADABLE: "can't be read",
            Oddity.ODDEST: "oddest at the last teaching",
        }[self]


@dataclass(frozen=True, slots=True)
class ImageMeasure:
    """What the rules need of one image."""

    sharpness: float
    """The variance of its second derivative, as a power of two."""
    light: float
    """The mean grey level, 0 to 255."""
    thumbnail: Thumbnail


def measure_image(image: Image) -> ImageMeasure:
    """Measures an image, uint8 (H, W, 3) BGR or (H, W). Raises cv2.error."""
    thumbnail = make_thumbnail(image)
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    factor = _SIDE / max(grey.shape)
    if factor < 1:
        rows, columns = (max(1, round(side * factor)) for side in grey.shape)
        grey = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
    variance = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return ImageMeasure(float(np.log2(variance + 1e-3)), float(thumbnail.mean()), thumbnail)


def find_oddities(measures: Sequence[ImageMeasure]) -> list[frozenset[Oddity]]:
    """The oddities of each image. The images are in the order of time: of near copies the first has no
    oddity."""
    oddities: list[set[Oddity]] = [set() for _ in measures]
    seen: set[int] = set()
    parts = find_parts([str(i) for i in range(len(measures))], [one.thumbnail for one in measures])
    for own, part in zip(oddities, parts, strict=True):
        if part in seen:
            own.add(Oddity.COPY)
        seen.add(part)
    if len(measures) >= LEAST_COMPARED:
        light = _light_distances([one.light for one in measures])
        sharpness = _distances([one.sharpness for one in measures], _LEAST_BLUR)
        for own, by_light, by_sharpness in zip(oddities, light, sharpness, strict=True):
            if abs(by_light) > 1:
                own.add(Oddity.LIGHTER if by_light > 0 else Oddity.DARKER)
            # With less light every image has less contrast, and so less of what is measured as sharpness.
            if by_sharpness < -1 and Oddity.DARKER not in own:
                own.add(Oddity.BLURRED)
    return [frozenset(own) for own in oddities]


def _light_distances(grey_levels: Sequence[float]) -> NDArray[np.float64]:
    """As `_distances`, of grey levels as powers of two: a weaker lamp darkens by a share of the light. In
    grey levels, good parts of much different light leave no room below them for a dark one."""
    light = np.log2(np.asarray(grey_levels) + 1)
    least = float(np.log2(1 + _LEAST_LIGHT / np.exp2(np.median(light))))
    return _distances(light.tolist(), least)


def _distances(values: Sequence[float], least: float) -> NDArray[np.float64]:
    """Each value's signed distance from the median; beyond 1 it stands out."""
    from_median = np.asarray(values) - np.median(values)
    usual = _TO_DEVIATION * float(np.median(np.abs(from_median)))
    return np.asarray(from_median / max(_OUTLYING * usual, least))
