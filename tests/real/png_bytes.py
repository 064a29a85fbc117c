"""Writes PNG files from samples, so that a test knows the values in them without trusting any decoder."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from tests.real.image_bytes import png_chunk

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, step of rows, step of columns of each pass of an interlaced image."""


def png(
    samples: NDArray[np.generic], colour: int, bits: int = 8, *, chunks: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG file of `samples`, (rows, columns, samples of a pixel). `chunks` stand before the image data."""
    rows, columns, _ = samples.shape
    passes = [samples[r::rs, c::cs] for r, c, rs, cs in _ADAM7] if interlaced else [samples]
    data = b"".join(_lines(piece, bits) for piece in passes if piece.size)
    head = struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, int(interlaced))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", head),
            chunks,
            png_chunk(b"IDAT", zlib.compress(data)),
            png_chunk(b"IEND", b""),
        ]
    )


def _lines(samples: NDArray[np.generic], bits: int) -> bytes:
    """Each line with filter 0."""
    flat = samples.reshape(samples.shape[0], -1)
    if bits >= 8:
        packed = flat.astype(np.uint8 if bits == 8 else ">u2").view(np.uint8).reshape(len(flat), -1)
    else:
        ones = (flat[:, :, None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
        packed = np.packbits(ones.reshape(len(flat), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + line.tobytes() for line in packed)
