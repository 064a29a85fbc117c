"""Writes TIFF files from samples, so that a test knows the values in them without trusting any decoder.

The file holds no more than TIFF 6.0 asks for. `wanted` samples are (rows, columns, samples) of a pixel.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence

import imagecodecs
import numpy as np
from numpy.typing import NDArray

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
NONE, CCITT_G4, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 4, 5, 7, 8, 32946, 32773
_SHORT, _LONG, _LONG8 = 3, 4, 16
_LETTERS = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_SAMPLES: dict[int, type[np.generic]] = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def packbits(content: bytes) -> bytes:
    """Literal runs alone, which every decoder must take."""
    runs = (content[at : at + 128] for at in range(0, len(content), 128))
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def lzw(content: bytes) -> bytes:
    return bytes(imagecodecs.lzw_encode(content))


COMPRESSORS: dict[int, Callable[[bytes], bytes]] = {
    NONE: bytes,
    DEFLATE: zlib.compress,
    OLD_DEFLATE: zlib.compress,
    PACKBITS: packbits,
    LZW: lzw,
}


def tiff(
    samples: NDArray[np.generic],
    photometric: int,
    bits: int = 8,
    *,
    planar: bool = False,
    tile: tuple[int, int] | None = None,
    rows_per_strip: int = 0,
    compression: int = NONE,
    predictor: int = 1,
    order: str = "<",
    big: bool = False,
    tags: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """A TIFF file of `samples`, (rows, columns, samples of a pixel). `tags` are (tag, type, values)."""
    rows, columns, count = samples.shape
    pieces = _pieces(samples, planar, tile, rows_per_strip)
    contents = [
        COMPRESSORS[compression](_packed(_differences(piece) if predictor == 2 else piece, bits, order))
        for piece in pieces
    ]
    layout = [(322, _SHORT, [tile[1]]), (323, _SHORT, [tile[0]])] if tile else []
    if not tile:
        layout = [(278, _LONG, [rows_per_strip or rows])]
    entries = [
        (256, _LONG, [columns]),
        (257, _LONG, [rows]),
        (258, _SHORT, [bits] * count),
        (259, _SHORT, [compression]),
        (262, _SHORT, [photometric]),
        (277, _SHORT, [count]),
        (284, _SHORT, [2 if planar else 1]),
        *([(317, _SHORT, [predictor])] if predictor != 1 else []),
        *layout,
        *tags,
    ]
    return write_file(contents, entries, (324, 325) if tile else (273, 279), order, big)


def write_file(
    contents: Sequence[bytes],
    entries: Sequence[tuple[int, int, Sequence[int]]],
    places: tuple[int, int],
    order: str = "<",
    big: bool = False,
) -> bytes:
    """A TIFF file of compressed strips or tiles. `places` are the tags of their offsets and lengths."""
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)
    out, offsets = bytearray(mark + head), list[int]()
    for content in contents:
        offsets.append(len(out))
        out += content + b"\0" * (len(content) % 2)
    pointer, inline = (_LONG8, 8) if big else (_LONG, 4)
    table = [*entries, (places[0], pointer, offsets), (places[1], pointer, [len(c) for c in contents])]
    directory = bytearray()
    for tag, kind, values in sorted(table):
        content = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
        if len(content) > inline:
            at = len(out)
            out += content + b"\0" * (len(content) % 2)
            content = struct.pack(order + _LETTERS[pointer], at)
        directory += struct.pack(f"{order}HH{_LETTERS[pointer]}", tag, kind, len(values))
        directory += content.ljust(inline, b"\0")
    at = len(out)
    struct.pack_into(order + _LETTERS[pointer], out, 8 if big else 4, at)
    out += struct.pack(order + ("Q" if big else "H"), len(table)) + directory + bytes(inline)
    return bytes(out)


def _pieces(
    samples: NDArray[np.generic], planar: bool, tile: tuple[int, int] | None, rows_per_strip: int
) -> list[NDArray[np.generic]]:
    """The samples of each strip or tile, plane after plane. The edges of tiles are filled with zeros."""
    rows, columns, count = samples.shape
    height, width = tile or (rows_per_strip or rows, columns)
    planes = [samples[:, :, i : i + 1] for i in range(count)] if planar else [samples]
    found = []
    for plane in planes:
        for top in range(0, rows, height):
            for left in range(0, columns, width):
                piece = plane[top : top + height, left : left + width]
                if tile:
                    missing = (height - piece.shape[0], width - piece.shape[1])
                    piece = np.pad(piece, ((0, missing[0]), (0, missing[1]), (0, 0)))
                found.append(piece)
    return found


def _differences(piece: NDArray[np.generic]) -> NDArray[np.generic]:
    """Predictor 2: each sample less the one on its left."""
    wide = piece.astype(np.int64)
    return np.concatenate([wide[:, :1], np.diff(wide, axis=1)], axis=1).astype(piece.dtype)


def _packed(piece: NDArray[np.generic], bits: int, order: str) -> bytes:
    if bits in _SAMPLES:
        return piece.astype(np.dtype(_SAMPLES[bits]).newbyteorder(order)).tobytes()
    flat = piece.reshape(piece.shape[0], -1)
    row_bits = (flat[:, :, None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(row_bits.reshape(piece.shape[0], -1).astype(np.uint8), axis=1).tobytes()
