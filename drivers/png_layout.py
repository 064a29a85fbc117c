"""Reads what a PNG says of its image data, and whether that data is enough for the size in its header.

It decodes no pixel and checks no checksum. Pillow leaves rows black where the data ends too early.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from drivers.image_limits import ImageError

_HEADER = struct.Struct(">4x4sIIBB2xB")
_FIRST_CHUNK, _SIGNATURE = b"IHDR", 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, step of rows, step of columns of each pass of an interlaced image."""
_LARGEST_RATIO = 1032
"""Deflate can't compress further: 258 bytes take at least 2 bits."""
_INFLATED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """What a PNG says of its image data."""

    columns: int
    rows: int
    pixel_bits: int
    is_interlaced: bool
    colours: int | None
    """How many colours its palette has; None for an image without a palette."""
    data: tuple[memoryview, ...]
    """The chunks of image data, compressed."""

    def needed_bytes(self) -> int:
        """How many bytes the data must have after decompression: each row has one byte for its filter."""
        passes = _ADAM7 if self.is_interlaced else ((0, 0, 1, 1),)
        total = 0
        for row, column, row_step, column_step in passes:
            rows = -(-(self.rows - row) // row_step)
            columns = -(-(self.columns - column) // column_step)
            if rows > 0 and columns > 0:
                total += rows * (1 + -(-columns * self.pixel_bits // 8))
        return total


def read_layout(content: bytes) -> Layout:
    """What the file of these bytes says. Raises ImageError where its header, palette or data is missing, or
    its data is shorter than its size can be compressed to."""
    if len(content) < _SIGNATURE + _HEADER.size:
        raise ImageError("the file is cut short")
    kind, columns, rows, depth, colour, interlace = _HEADER.unpack_from(content, _SIGNATURE)
    if kind != _FIRST_CHUNK or colour not in _CHANNELS:
        raise ImageError("the file is damaged (its header can't be read)")
    palette_bytes, data, place = 0, list[memoryview](), _SIGNATURE
    view = memoryview(content)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IDAT":
            data.append(view[place + 8 : place + 8 + length])
        elif data or kind == b"IEND":
            break
        elif kind == b"PLTE":
            palette_bytes = length
        elif kind == _FIRST_CHUNK and place != _SIGNATURE:
            raise ImageError("the file is damaged (it has two headers)")
        place += 12 + length
    has_palette = colour == _PALETTE
    if has_palette and not palette_bytes:
        raise ImageError("the file is damaged (its palette is missing)")
    colours = palette_bytes // 3 if has_palette else None
    layout = Layout(columns, rows, depth * _CHANNELS[colour], interlace != 0, colours, tuple(data))
    if layout.needed_bytes() > _LARGEST_RATIO * sum(map(len, data)):
        raise _too_short()
    return layout


def check_data(layout: Layout) -> None:
    """Raises ImageError where the data has fewer bytes than the image needs; it is decompressed by pieces."""
    missing = layout.needed_bytes()
    inflater = zlib.decompressobj()
    for chunk in layout.data:
        rest: bytes | memoryview = chunk
        while rest and missing > 0 and not inflater.eof:
            missing -= len(inflater.decompress(rest, _INFLATED_AT_ONCE))
            rest = inflater.unconsumed_tail
    while missing > 0 and not inflater.eof:
        # A full buffer may have left bytes inside the decompressor.
        more = inflater.decompress(b"", _INFLATED_AT_ONCE)
        if not more:
            raise _too_short()
        missing -= len(more)
    if missing > 0:
        raise _too_short()


def _too_short() -> ImageError:
    return ImageError("the file is damaged (it has less image data than its size needs)")
