"""The size to which a recipe's images are resized, by a fixed rule on their shapes and on operations.

It knows nothing of files, cameras or the machine: the same shapes, smallest defect and deadline give the same
size everywhere. The size keeps the images' typical shape, because a long part that is resized to a square
loses its narrow defects. Times are those of a processor of an assumed speed, never measured ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from monitor.images.preprocessing import Size
from monitor.images.tiling import format_size
from monitor.model.recipe_json import MAX_SIDE, MAX_TILE_SIDE, Tiles, make_grid, make_tiles

BUDGET_MS = 100.0
"""The time for one frame where no camera's deadline sets another."""
DEADLINE_SHARE = 0.4
"""The share of a camera's deadline that the networks may take. The rest is for capture, resizing, waiting and
publishing."""
GIGA_OPERATIONS = {
    "resnet18": 7.33,
    "resnet34": 15.8,
    "resnet50": 17.1,
    "wide_resnet50_2": 48.0,
    "squeezenet1_1": 1.39,
    "mobilenet_v3_large": 0.794,
    "efficientnet_b0": 1.27,
}
"""By architecture, 10^9 operations of teacher and student together for one input of 256x256 pixels."""
_GIGA_OPERATIONS_PER_MS = 0.18325
"""The assumed speed: a teacher and a student that are ResNet-18s see 2.5 times 256x256 pixels in 100 ms."""

SQUARE_PIXELS, LONG_PIXELS = 256 * 256, 256 * 640
"""The wanted pixels of images that are nearly square, and the most that long ones get."""
_GROWS_FROM = 1.5
"""From this ratio of long to short side on the wanted pixels grow with the ratio, so that the short side does
not get shorter."""
_STEP, _LEAST_SIDE = 16, 64
"""Sides are multiples of the first, which is one cell of a ResNet's third level, and at least the second."""
MOST_ENLARGED = 2.0
"""Images are not enlarged by more than this, except to the smallest side: that would show nothing more."""
VISIBLE = 8
"""The pixels of the network's input that a defect should have: one cell of the second level."""
_SHOWN_DEFECTS = (4, 8, 16)
_KEPT, _SQUASHED = 1.25, 1.5
"""The ratio of an image's sides changes by at most the first where it nearly keeps its shape: images that are
square but for this are resized to a square, as in the paper. Beyond the second it is reported as squashed."""


@dataclass(frozen=True)
class ChosenSize:
    """The size of a recipe's images, and why."""

    size: Size
    tiles: Tiles | None
    """None: the network gets the whole image at once."""
    reason: str
    """One line for the user."""


def choose_size(
    shapes: Sequence[Size],
    *,
    smallest_defect: float | None,
    deadline_ms: float | None,
    architecture: str,
    tiles: Tiles | None = None,
) -> ChosenSize:
    """The size for images of these shapes, of which there is at least one.

    `smallest_defect` is in pixels of the images; None asks for the usual size. `deadline_ms` is the shortest
    deadline of the recipe's cameras; None: there is no such camera. `tiles` are the user's own; None: images
    are cut only where the smallest defect needs more pixels than there is time for.
    """
    shape = typical_shape(shapes)
    limit = affordable_pixels(architecture, deadline_ms)
    wanted = min(_wanted_pixels(shape), int(MOST_ENLARGED**2 * shape[0] * shape[1]))
    usual = _nearest_size(shape, wanted, limit)
    chosen_from = f"chosen from the images (typically {format_size(shape)})"
    if smallest_defect is None or scale(shape, usual) * smallest_defect >= VISIBLE:
        limited = f", limited by {_time(deadline_ms)}" if wanted > limit else ""
        reason = f"size {format_size(usual)} (width x height), {chosen_from}{limited}; --size sets another"
        return ChosenSize(usual, tiles, reason)
    size = _size_for_defect(shape, smallest_defect)
    if tiles is None and (math.prod(size) > limit or max(size) > MAX_TILE_SIDE):
        tile = _tile(size, limit)
        tiles = make_tiles(tile) if tile != size else None
    becomes = _what_becomes(scale(shape, size) * smallest_defect, size)
    reason = (
        f"size {format_size(size)} (width x height), {chosen_from}: a defect of {smallest_defect:g} "
        f"{'pixel' if smallest_defect == 1 else 'pixels'} becomes {becomes}"
    )
    return ChosenSize(size, tiles, reason + _cost(size, tiles, architecture, deadline_ms))


def typical_shape(shapes: Sequence[Size]) -> Size:
    """Rows and columns of the median shape (columns by rows) and the median number of pixels."""
    aspect = median_low(columns / rows for rows, columns in shapes)
    pixels = median_low(rows * columns for rows, columns in shapes)
    rows = math.sqrt(pixels / aspect)
    return max(1, round(rows)), max(1, round(rows * aspect))


def affordable_pixels(architecture: str, deadline_ms: float | None) -> int:
    """The number of pixels for which there is time, by the assumed speed.

    Without a deadline it is at least that of 256x256, also with a slow teacher.
    """
    budget = BUDGET_MS if deadline_ms is None else DEADLINE_SHARE * deadline_ms
    pixels = int(budget / needed_ms(SQUARE_PIXELS, architecture) * SQUARE_PIXELS)
    return max(pixels, SQUARE_PIXELS) if deadline_ms is None else pixels


def needed_ms(pixels: int, architecture: str) -> float:
    """The time that teacher and student need for so many pixels, by the assumed speed."""
    return GIGA_OPERATIONS[architecture] * pixels / SQUARE_PIXELS / _GIGA_OPERATIONS_PER_MS


def scale(shape: Size, size: Size) -> float:
    """By how much a length of an image grows, along the side that grows less."""
    return min(size[0] / shape[0], size[1] / shape[1])


def explain_scale(shapes: Sequence[Size], size: Size, *, smallest_defect: float | None) -> str:
    """One line: how many pixels of the network's input small defects get."""
    grown = scale(typical_shape(shapes), size)
    before = ", ".join(str(pixels) for pixels in _SHOWN_DEFECTS)
    after = ", ".join(f"{grown * pixels:.1f}" for pixels in _SHOWN_DEFECTS)
    line = (
        f"a defect of {before} pixels becomes {after} pixels for the network, whose middle level has cells "
        f"of {VISIBLE} pixels"
    )
    if smallest_defect is None and grown < MOST_ENLARGED:
        line += ": give --smallest-defect PX if smaller ones matter"
    return line


def explain_spread(shapes: Sequence[Size], size: Size) -> str:
    """One line if some images change their shape much at this size, else an empty text."""
    aspects = [columns / rows * size[0] / size[1] for rows, columns in shapes]
    squashed = sum(max(aspect, 1 / aspect) > _SQUASHED for aspect in aspects)
    if not squashed:
        return ""
    return (
        f"the images differ in shape: at this size {squashed} of {len(shapes)} are squashed by more than "
        f"{_SQUASHED:g} times; train a recipe for each shape, or cut them to one"
    )


def keeps_shape(shapes: Sequence[Size], size: Size) -> bool:
    """Whether images of these shapes nearly keep their typical shape at this size."""
    rows, columns = typical_shape(shapes)
    change = columns / rows * size[0] / size[1]
    return max(change, 1 / change) <= _KEPT


def _wanted_pixels(shape: Size) -> int:
    aspect = max(shape) / min(shape)
    return min(LONG_PIXELS, round(SQUARE_PIXELS * max(1.0, aspect / _GROWS_FROM)))


def _nearest_size(shape: Size, wanted: int, limit: int) -> Size:
    """The size of that shape whose number of pixels is nearest to `wanted` and at most `limit`.

    It is a square for a shape that nearly is one.
    """
    aspect = max(shape) / min(shape)
    if aspect <= _KEPT:
        aspect = 1.0
    sizes = [
        (short, min(MAX_TILE_SIDE, _STEP * round(short * aspect / _STEP)))
        for short in range(_LEAST_SIDE, MAX_TILE_SIDE + 1, _STEP)
    ]
    short, long = min(
        (size for size in sizes if math.prod(size) <= limit),
        key=lambda size: max(math.prod(size) / wanted, wanted / math.prod(size)),
        default=(_LEAST_SIDE, max(_LEAST_SIDE, _floor(limit // _LEAST_SIDE))),
    )
    return (short, long) if shape[0] <= shape[1] else (long, short)


def _size_for_defect(shape: Size, smallest_defect: float) -> Size:
    """The smallest size at which a defect of that many pixels of the image gets `VISIBLE` pixels.

    It is smaller where the images would be enlarged too much or a side would be too long.
    """
    grown = min(VISIBLE / smallest_defect, MOST_ENLARGED, MAX_SIDE / max(shape))
    rows, columns = (max(_LEAST_SIDE, _STEP * math.ceil(side * grown / _STEP)) for side in shape)
    return min(rows, MAX_SIDE), min(columns, MAX_SIDE)


def _tile(size: Size, limit: int) -> Size:
    """The tile for images of that size: of at most `limit` pixels but at least 256x256, as large as the image
    lets it be, then as small as the same number of tiles lets it be."""
    limit = max(limit, SQUARE_PIXELS)
    square = min(MAX_TILE_SIDE, _floor(math.isqrt(limit)))
    short = min(*size, square)
    long = min(max(size), MAX_TILE_SIDE, _floor(limit // short) if short < square else square)
    overlap = short // 8
    rows, columns = (
        _even_tile(length, tile, overlap)
        for length, tile in zip(size, (short, long) if size[0] <= size[1] else (long, short), strict=True)
    )
    return rows, columns


def _even_tile(length: int, tile: int, overlap: int) -> int:
    """The shortest tile of which as many cover `length` as of `tile`."""
    count = math.ceil((length - overlap) / (tile - overlap))
    return min(tile, _STEP * math.ceil((length + (count - 1) * overlap) / count / _STEP))


def _floor(side: int) -> int:
    return side // _STEP * _STEP


def _time(deadline_ms: float | None) -> str:
    """The time that limits the pixels of a frame."""
    if deadline_ms is None:
        return f"the {BUDGET_MS:g} ms that a frame may take"
    return f"the {DEADLINE_SHARE * deadline_ms:g} ms that a camera's deadline of {deadline_ms:g} ms leaves"


def _what_becomes(pixels: float, size: Size) -> str:
    """The pixels that a defect gets, and why it does not get more where it should."""
    if pixels >= VISIBLE - 0.05:
        return f"{pixels:.1f}"
    if max(size) >= MAX_SIDE:
        return f"{pixels:.1f} instead of {VISIBLE}, because a side has at most {MAX_SIDE}"
    return f"{pixels:.1f} instead of {VISIBLE}, because images are enlarged by at most {MOST_ENLARGED:g}"


def _cost(size: Size, tiles: Tiles | None, architecture: str, deadline_ms: float | None) -> str:
    """The tiles and the time of a frame, where it takes more than it may."""
    grid = make_grid(size, tiles)
    pixels = len(grid) * math.prod(grid.tile)
    cut = f"{len(grid)} tiles of {format_size(grid.tile)}" if tiles else ""
    if pixels <= affordable_pixels(architecture, deadline_ms):
        return f"; {cut}" if cut else ""
    work = f"{cut} take" if cut else "a frame takes"
    return (
        f"; {work} about {needed_ms(pixels, architecture):,.0f} ms at the assumed speed, more than "
        f"{_time(deadline_ms)}: measure with line-monitor bench"
    )
