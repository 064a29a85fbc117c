"""Writes BMP files from samples, so that a test knows the values in them without trusting any decoder."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RAW, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3
_HEAD, _INFO = 14, 40


def bmp(
    rows: Sequence[bytes],
    columns: int,
    bits: int,
    *,
    palette: NDArray[np.uint8] | None = None,
    compression: int = RAW,
    masks: Sequence[int] = (),
    top_down: bool = False,
    core: bool = False,
) -> bytes:
    """A BMP of `rows` from top to bottom, each packed. `palette` is (colours, 3), BGR; `core` is OS/2's
    header."""
    lines = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in (rows if top_down else reversed(rows))]
    pixels = b"".join(rows if compression in (RLE8, RLE4) else lines)
    height = len(rows)
    return wrap(pixels, columns, -height if top_down else height, bits, palette, compression, masks, core)


def wrap(
    pixels: bytes,
    columns: int,
    height: int,
    bits: int,
    palette: NDArray[np.uint8] | None = None,
    compression: int = RAW,
    masks: Sequence[int] = (),
    core: bool = False,
) -> bytes:
    """A BMP around packed pixels."""
    if core:
        info = struct.pack("<IHHHH", 12, columns, height, 1, bits)
        colours = b"" if palette is None else palette.tobytes()
    else:
        count = 0 if palette is None else len(palette)
        info = struct.pack(
            "<IiiHHIIiiII", _INFO, columns, height, 1, bits, compression, len(pixels), 2835, 2835, count, 0
        )
        info += struct.pack(f"<{len(masks)}I", *masks)
        colours = b"" if palette is None else np.pad(palette, ((0, 0), (0, 1))).tobytes()
    start = _HEAD + len(info) + len(colours)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + colours + pixels
