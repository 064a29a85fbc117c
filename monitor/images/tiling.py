"""The tiles of an image: where they lie, and how their anomaly maps become one map.

It knows nothing of networks: these are pure functions of shapes and arrays. Tiles keep small defects visible
that resizing the whole frame to one network input would lose. They overlap, and each map's weight falls
towards the tile's border, so that the whole map shows no seams.
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
"""Tiles begin at multiples of this where possible. A ResNet's third level has one cell for 16 pixels; a tile
that begins elsewhere has its cells on other pixels and gives the same surface other features."""
_BORDER = 0.25
"""Within this share of the overlap from a tile's border, the tile's weight is almost 0 and the other tile's
map is used. Convolutions get zeros from beyond a tile's border, so the features near it are wrong."""
_LEAST = 1e-6
"""The smallest weight; it keeps every sum of weights above 0."""


class TilingError(LineMonitorError, ValueError):
    """Tiles of this size can't cover an image of that size. The message is one line with the fix."""


@dataclass(frozen=True)
class Grid:
    """The tiles of an image, all of one size, numbered row by row."""

    size: Size
    """The image's size."""
    tile: Size
    overlap: int = 0
    """The smallest number of rows or columns that neighbouring tiles share."""

    def __post_init__(self) -> None:
        """Raises TilingError."""
        for length, tile in zip(self.size, self.tile, strict=True):
            if tile > length:
                raise TilingError(
                    f"tiles of {format_size(self.tile)} are larger than the {format_size(self.size)} they "
                    "are to cover: use smaller tiles, or none"
                )
            if tile < length and not 0 <= self.overlap <= tile // 2:
                raise TilingError(
                    f"tiles of {format_size(self.tile)} can't overlap by {self.overlap} pixels: "
                    f"use 0 to {tile // 2}"
                )

    @classmethod
    def whole(cls, size: Size) -> Grid:
        """A single tile that is the whole image."""
        return cls(size, size)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Row and column at which each tile begins."""
        rows, columns = (_starts(*axis, self.overlap) for axis in zip(self.size, self.tile, strict=True))
        return tuple((row, column) for row in rows for column in columns)

    def __len__(self) -> int:
        return len(self.places)

    def cut(self, image: Image, number: int) -> Image:
        """The tile of that number, as a view into the image. `image` is (*size, 3) or `size`."""
        row, column = self.places[number]
        return image[row : row + self.tile[0], column : column + self.tile[1]]

    def stitch_maps(self, maps: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """One map of `size` from the maps of all tiles, which are float32 of `tile`, in the tiles' order."""
        if len(self.places) == 1:
            (only,) = maps
            return only
        whole = np.zeros(self.size, np.float32)
        for number, tile_map in zip(range(len(self)), maps, strict=True):
            (row, column), (by_row, by_column) = self.places[number], self.tile_weights(number)
            target = whole[row : row + self.tile[0], column : column + self.tile[1]]
            target += tile_map * by_row[:, None] * by_column
        return whole

    def tile_weights(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The weights of a tile's rows and columns in the whole map: float32 (rows,) and (columns,).

        A pixel's weight is the product of the two.
        """
        row, column = self.places[number]
        return self._weights[0][row], self._weights[1][column]

    @cached_property
    def _weights(self) -> tuple[dict[int, NDArray[np.float32]], ...]:
        """For rows and for columns, the weights along a tile, by the row or column at which it begins.

        At every pixel of the image the weights of all tiles add up to 1.
        """
        return tuple(_axis_weights(*axis, self.overlap) for axis in zip(self.size, self.tile, strict=True))


def format_size(size: Size) -> str:
    """The size as users write it: width x height."""
    return f"{size[1]}x{size[0]}"


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """The beginnings of the smallest number of tiles that cover `length`, evenly spread."""
    if tile == length:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    last = length - tile
    even = [last * number // (count - 1) for number in range(count)]
    stepped = [start // STEP * STEP for start in even[:-1]] + [last]
    closest = all(b - a <= tile - overlap for a, b in pairwise(stepped))
    return stepped if closest else even


def _axis_weights(length: int, tile: int, overlap: int) -> dict[int, NDArray[np.float32]]:
    """Along one axis, each tile's weights by its beginning; the weights at one pixel add up to 1."""
    starts = _starts(length, tile, overlap)
    middles = np.arange(tile) + 0.5
    heights = {}
    for start in starts:
        height = np.ones(tile)
        # A tile's weight rises from its border inwards, except at the border of the image.
        for distance, fades in ((middles, start > 0), (tile - middles, start + tile < length)):
            if fades and overlap:
                height *= np.clip((distance / overlap - _BORDER) / (1 - 2 * _BORDER), _LEAST, 1)
        heights[start] = height
    total = np.zeros(length)
    for start, height in heights.items():
        total[start : start + tile] += height
    return {
        start: (height / total[start : start + tile]).astype(np.float32) for start, height in heights.items()
    }
