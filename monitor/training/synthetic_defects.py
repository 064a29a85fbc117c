"""Drawn defects: a blot, a scratch or a displaced piece on a good picture, by which a student is selected.

It knows nothing of networks. No student learns from a drawn defect and no threshold comes from one.

The paper keeps the student with the smallest anomaly maps of good images. A student that trains too long with
an easy teacher imitates the teacher on defects too, while those maps still shrink. Drawn defects look unlike
real ones, but a student that no longer finds them also misses real ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.images.preprocessing import Size

_SIDE = 256
"""The lengths below are pixels of a picture with this side length."""
_VISIBLE = 0.3
"""The pixels with an opacity above this belong to the defect."""


class DefectKind(StrEnum):
    PIECE = "piece"
    BLOT = "blot"
    SCRATCH = "scratch"


@dataclass(frozen=True)
class DefectPicture:
    """A picture with a drawn defect."""

    picture: Image
    where: NDArray[np.bool_]
    """(H, W): the defect's pixels, at least one."""


def draw_defect(kind: DefectKind, picture: Image, source: Image, rng: np.random.Generator) -> DefectPicture:
    """A copy of `picture` with a defect at a random place. A displaced piece is cut from `source`.

    Both are uint8 (H, W, 3) or (H, W) of one shape, at least 32 pixels on each side. Neither is changed.
    """
    size = (picture.shape[0], picture.shape[1])
    if kind is DefectKind.SCRATCH:
        opacity = _line(size, rng)
    elif kind is DefectKind.BLOT:
        length = rng.uniform(3, 16)
        opacity = _ellipse(size, length * np.exp(rng.uniform(-0.7, 0.7)), length, rng)
    else:
        area, stretch = rng.uniform(0.004, 0.03) * _SIDE**2, np.exp(rng.uniform(-0.6, 0.6))
        opacity = _ellipse(size, np.sqrt(area) * stretch, np.sqrt(area) / stretch, rng)
    blend = opacity[..., None] if picture.ndim == 3 else opacity
    if kind is DefectKind.PIECE:
        other = _displace(source, rng)
    else:
        middle = float(picture[opacity > _VISIBLE].mean())
        change = rng.choice((-1, 1)) * rng.uniform(20, 70)
        # Where the change would leave the range of grey levels, it goes in the other direction.
        other = picture + (change if 0 <= middle + change <= 255 else -change)
    mixed = picture * (1 - blend) + other * blend
    return DefectPicture(np.clip(np.rint(mixed), 0, 255).astype(np.uint8), opacity > _VISIBLE)


def _displace(source: Image, rng: np.random.Generator) -> NDArray[np.float64]:
    """The source picture, rotated and moved, with another contrast and brightness."""
    height, width = source.shape[:2]
    rows, columns = rng.integers(0, _side((height, width)), 2)
    turned = np.rot90(np.roll(source, (rows, columns), (0, 1)), int(rng.integers(1, 4)))
    if turned.shape != source.shape:
        turned = np.asarray(cv2.resize(turned, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    moved = turned.astype(np.float64)
    middle = moved.mean()
    return np.asarray((moved - middle) * rng.uniform(0.7, 1.5) + middle + rng.uniform(-25, 25))


def _ellipse(size: Size, length: float, width: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The opacity of an ellipse with these axes."""
    axes = [max(1, round(axis * _side(size) / _SIDE / 2)) for axis in (length, width)]
    opacity = np.zeros(size, np.float32)
    cv2.ellipse(opacity, _random_point(size, rng), axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
    return _soften(opacity, 1.0)


def _line(size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
    """The opacity of a line with four bends."""
    side = _side(size)
    points = [np.array(_random_point(size, rng), float)]
    direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(15, 70) * side / _SIDE
    for _ in range(4):
        direction += rng.normal(0, 0.35)
        points.append(points[-1] + length / 4 * np.array([np.cos(direction), np.sin(direction)]))
    width = max(1, round(int(rng.integers(1, 5)) * side / _SIDE))
    opacity = np.zeros(size, np.float32)
    cv2.polylines(opacity, [np.rint(points).astype(np.int32)], False, 1.0, width)
    return _soften(opacity, 0.8)


def _side(size: Size) -> int:
    """The side length of a square with the same area."""
    return round(math.sqrt(size[0] * size[1]))


def _random_point(size: Size, rng: np.random.Generator) -> tuple[int, int]:
    """A random point (x, y) inside a margin, because a part seldom reaches the edge of its picture."""
    side = _side(size)
    margin = side // 25
    x, y = (int(along) for along in rng.integers(margin, side - margin, 2))
    rows, columns = size
    return x * columns // side, y * rows // side


def _soften(opacity: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    """The opacity with soft edges; its largest value is 1, even for a thin line."""
    soft = cv2.GaussianBlur(opacity, (0, 0), deviation)
    return np.asarray(soft / soft.max(), np.float32)
