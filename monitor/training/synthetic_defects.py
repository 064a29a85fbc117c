"""Drawn defects: a blot, a scratch or a displaced piece on a good picture, to choose between students by.

The paper keeps the student whose maps of good images are the smallest. A student that learns too long from an
easy teacher imitates it on defects too, while those maps still shrink; on drawn defects that shows.

Nothing ever learns from them, and no threshold comes of them: they look like no real defect, but a student
that no longer sees them will miss real ones.
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
"""The lengths below are pixels of a picture of this side."""
_SEEN = 0.3
"""A drawn defect is where its opacity is more than this."""


class Kind(StrEnum):
    PIECE = "piece"
    BLOT = "blot"
    SCRATCH = "scratch"


@dataclass(frozen=True)
class Drawn:
    """A picture with a defect drawn on it."""

    picture: Image
    where: NDArray[np.bool_]
    """(H, W): the defect's pixels, at least one."""


def draw(kind: Kind, picture: Image, source: Image, rng: np.random.Generator) -> Drawn:
    """A defect at a random place of a picture; a piece is cut from `source`, of the same shape.

    Both uint8 (H, W, 3) or (H, W), at least 32 pixels a side; neither is changed.
    """
    size = (picture.shape[0], picture.shape[1])
    if kind is Kind.SCRATCH:
        opacity = _line(size, rng)
    elif kind is Kind.BLOT:
        length = rng.uniform(3, 16)
        opacity = _ellipse(size, length * np.exp(rng.uniform(-0.7, 0.7)), length, rng)
    else:
        area, stretch = rng.uniform(0.004, 0.03) * _SIDE**2, np.exp(rng.uniform(-0.6, 0.6))
        opacity = _ellipse(size, np.sqrt(area) * stretch, np.sqrt(area) / stretch, rng)
    blend = opacity[..., None] if picture.ndim == 3 else opacity
    if kind is Kind.PIECE:
        other = _elsewhere(source, rng)
    else:
        middle = float(picture[opacity > _SEEN].mean())
        change = rng.choice((-1, 1)) * rng.uniform(20, 70)
        # On what is black or white already, the other way.
        other = picture + (change if 0 <= middle + change <= 255 else -change)
    mixed = picture * (1 - blend) + other * blend
    return Drawn(np.clip(np.rint(mixed), 0, 255).astype(np.uint8), opacity > _SEEN)


def _elsewhere(source: Image, rng: np.random.Generator) -> NDArray[np.float64]:
    """The source turned, moved, with other contrast and brightness."""
    height, width = source.shape[:2]
    rows, columns = rng.integers(0, _side((height, width)), 2)
    turned = np.rot90(np.roll(source, (rows, columns), (0, 1)), int(rng.integers(1, 4)))
    if turned.shape != source.shape:
        turned = np.asarray(cv2.resize(turned, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    moved = turned.astype(np.float64)
    middle = moved.mean()
    return np.asarray((moved - middle) * rng.uniform(0.7, 1.5) + middle + rng.uniform(-25, 25))


def _ellipse(size: Size, length: float, width: float, rng: np.random.Generator) -> NDArray[np.float32]:
    axes = [max(1, round(axis * _side(size) / _SIDE / 2)) for axis in (length, width)]
    opacity = np.zeros(size, np.float32)
    cv2.ellipse(opacity, _place(size, rng), axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
    return _softened(opacity, 1.0)


def _line(size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
    """A line of four bends."""
    side = _side(size)
    points = [np.array(_place(size, rng), float)]
    direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(15, 70) * side / _SIDE
    for _ in range(4):
        direction += rng.normal(0, 0.35)
        points.append(points[-1] + length / 4 * np.array([np.cos(direction), np.sin(direction)]))
    width = max(1, round(int(rng.integers(1, 5)) * side / _SIDE))
    opacity = np.zeros(size, np.float32)
    cv2.polylines(opacity, [np.rint(points).astype(np.int32)], False, 1.0, width)
    return _softened(opacity, 0.8)


def _side(size: Size) -> int:
    """Of a square of the same area."""
    return round(math.sqrt(size[0] * size[1]))


def _place(size: Size, rng: np.random.Generator) -> tuple[int, int]:
    """Not at the very edge: a camera's picture of a part seldom reaches it."""
    side = _side(size)
    margin = side // 25
    x, y = (int(along) for along in rng.integers(margin, side - margin, 2))
    rows, columns = size
    return x * columns // side, y * rows // side


def _softened(opacity: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    """With soft edges, and opaque at its middle however thin."""
    soft = cv2.GaussianBlur(opacity, (0, 0), deviation)
    return np.asarray(soft / soft.max(), np.float32)
