"""A frame in overlapping tiles, for defects that would be lost when the frame is shrunk: where the tiles lie,
and how their anomaly maps become one.

Pure functions of shapes and arrays: nothing here knows what a network is. A map must not show where the seams
are, so tiles fade into each other, and what a tile sees at its own border counts for nothing where another
tile sees further.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.images.preprocessing import Size

STEP = 16
"""Tiles begin at multiples of this where they can: the third level of a ResNet has one place for 16 pixels,
and tiles that begin between two of them would see the same surface otherwise."""
_BORDER = 0.25
"""This share of an overlap, at each tile's border, is left to the tile that sees further. A convolution sees
black beyond a border."""
_LEAST = 1e-6


class TilingError(LineMonitorError, ValueError):
    """These tiles can't cover that picture; the message is one line with the fix."""


@dataclass(frozen=True)
class Grid:
    """The tiles of a picture, all of one size, row by row."""

    size: Size
    """Of the picture."""
    tile: Size
    overlap: int = 0
    """Neighbouring tiles share at least so many rows or columns."""

    def __post_init__(self) -> None:
        """Raises TilingError."""
        for length, tile in zip(self.size, self.tile, strict=True):
            if tile > length:
                raise TilingError(
                    f"tiles of {shown(self.tile)} are larger than the {shown(self.size)} they are to cover: "
                    "use smaller tiles, or none"
                )
            if tile < length and not 0 <= self.overlap <= tile // 2:
                raise TilingError(
                    f"tiles of {shown(self.tile)} can't overlap by {self.overlap} pixels: "
                    f"use 0 to {tile // 2}"
                )

    @classmethod
    def whole(cls, size: Size) -> Grid:
        """One tile: the picture itself."""
        return cls(size, size)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Row and column at which each tile begins."""
        rows, columns = (_starts(*axis, self.overlap) for axis in zip(self.size, self.tile, strict=True))
        return tuple((row, column) for row in rows for column in columns)

    def __len__(self) -> int:
        return len(self.places)

    def cut(self, picture: Image, number: int) -> Image:
        """The picture's tile of that number: a view into it. `picture` is (*size, 3) or `size`."""
        row, column = self.places[number]
        return picture[row : row + self.tile[0], column : column + self.tile[1]]

    def stitched(self, maps: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The maps of all tiles, float32 `tile` each, in order, as one of `size`."""
        if len(self.places) == 1:
            (only,) = maps
            return only
        whole = np.zeros(self.size, np.float32)
        for number, own in zip(range(len(self)), maps, strict=True):
            (row, column), (down, along) = self.places[number], self.shares(number)
            part = whole[row : row + self.tile[0], column : column + self.tile[1]]
            part += own * down[:, None] * along
        return whole

    def shares(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How much each row and each column of the tile of that number counts in the map of all: float32
        (rows,) and (columns,). A place counts for their product."""
        row, column = self.places[number]
        return self._weights[0][row], self._weights[1][column]

    @cached_property
    def _weights(self) -> tuple[dict[int, NDArray[np.float32]], ...]:
        """For rows and for columns: how much each place of a tile counts, by where the tile begins. At every
        place of the picture they add up to 1."""
        return tuple(_shares(*axis, self.overlap) for axis in zip(self.size, self.tile, strict=True))


def shown(size: Size) -> str:
    """As people write it: width x height."""
    return f"{size[1]}x{size[0]}"


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover `length` with as few as can be, spread evenly."""
    if tile == length:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    last = length - tile
    even = [last * number // (count - 1) for number in range(count)]
    stepped = [start // STEP * STEP for start in even[:-1]] + [last]
    closest = all(b - a <= tile - overlap for a, b in pairwise(stepped))
    return stepped if closest else even


def _shares(length: int, tile: int, overlap: int) -> dict[int, NDArray[np.float32]]:
    starts = _starts(length, tile, overlap)
    inside = np.arange(tile) + 0.5
    heights = {}
    for start in starts:
        height = np.ones(tile)
        for far, is_border in ((inside, start > 0), (tile - inside, start + tile < length)):
            if is_border and overlap:
                height *= np.clip((far / overlap - _BORDER) / (1 - 2 * _BORDER), _LEAST, 1)
        heights[start] = height
    total = np.zeros(length)
    for start, height in heights.items():
        total[start : start + tile] += height
    return {
        start: (height / total[start : start + tile]).astype(np.float32) for start, height in heights.items()
    }
