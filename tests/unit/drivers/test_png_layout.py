"""A PNG that holds less than its header says is refused, though its checksums are right."""

from __future__ import annotations

import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers import image_file, png_layout
from drivers.image_file import ImageError
from tests.real.image_bytes import png_chunk
from tests.real.png_bytes import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, png

KINDS = [*((GREY, 1, bits) for bits in (1, 4, 8, 16)), (RGB, 3, 8), (RGB, 3, 16), (RGB_ALPHA, 4, 8)]


def samples(count: int, bits: int, rows: int = 24, columns: int = 17) -> NDArray[np.generic]:
    return np.random.default_rng(bits).integers(1, 1 << bits, (rows, columns, count))


def with_header(file: bytes, columns: int, rows: int, bits: int, colour: int) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 0))
    return file[:8] + head + file[8 + len(head) :]


def with_data(file: bytes, *parts: bytes) -> bytes:
    start = file.index(b"IDAT") - 4
    return file[:start] + b"".join(png_chunk(b"IDAT", part) for part in parts) + png_chunk(b"IEND", b"")


def raw_data(file: bytes) -> bytes:
    start = file.index(b"IDAT")
    return zlib.decompress(file[start + 4 : start + 4 + int.from_bytes(file[start - 4 : start], "big")])


@pytest.mark.parametrize(("colour", "count", "bits"), [*KINDS, (GREY_ALPHA, 2, 8)])
def test_missing_rows_are_not_taken_for_black_ones(colour: int, count: int, bits: int) -> None:
    whole = png(samples(count, bits), colour, bits)
    image_file.decode(whole)
    for rows in (25, 48):
        with pytest.raises(ImageError, match="less image data"):
            image_file.decode(with_header(whole, 17, rows, bits, colour))
    data = raw_data(whole)
    for share in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(ImageError, match=r"less image data|cut short|truncated"):
            image_file.decode(with_data(whole, zlib.compress(data[:share])))


@pytest.mark.parametrize("passes", range(1, 7))
def test_missing_passes_of_an_interlaced_image_are_noticed(passes: int) -> None:
    """Each pass of 16x16 grey pixels has the rows and the columns of this table."""
    sizes = ((2, 2), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16))
    whole = png(samples(1, 8, 16, 16), GREY, interlaced=True)
    data = raw_data(whole)
    lengths = [rows * (1 + columns) for rows, columns in sizes]
    assert len(data) == sum(lengths)
    with pytest.raises(ImageError, match="less image data"):
        image_file.decode(with_data(whole, zlib.compress(data[: sum(lengths[:passes])])))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 2), (3, 5), (8, 8), (9, 7)])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "count", "bits"), KINDS)
def test_the_bytes_that_an_image_needs_are_counted(
    colour: int, count: int, bits: int, size: tuple[int, int], interlaced: bool
) -> None:
    file = png(samples(count, bits, *size), colour, bits, interlaced=interlaced)
    layout = png_layout.read_layout(file)
    assert layout.needed_bytes() == len(raw_data(file))
    png_layout.check_data(layout)


def test_an_image_that_is_black_at_its_bottom_is_whole() -> None:
    black = samples(3, 8, 600, 800)
    black[300:] = 0
    file = png(black, RGB)
    assert np.array_equal(image_file.decode(file), black[:, :, ::-1])
    data = zlib.compress(raw_data(file))
    parts = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    assert np.array_equal(image_file.decode(with_data(file, *parts)), black[:, :, ::-1])


def test_a_small_file_that_asks_for_much_is_refused_at_once() -> None:
    file = with_header(png(np.zeros((1, 16000, 3), np.uint8), RGB), 16000, 16000, 8, RGB)
    assert len(file) < 300
    start = time.process_time()
    with pytest.raises(ImageError, match="less image data"):
        image_file.decode(file)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_an_index_beyond_the_palette_is_damage(bits: int) -> None:
    indices = samples(1, bits)
    colours = np.arange(3 << bits, dtype=np.int64).astype(np.uint8).tobytes()
    image_file.decode(png(indices, PALETTE, bits, chunks=png_chunk(b"PLTE", colours)))
    with pytest.raises(ImageError, match="beyond the"):
        image_file.decode(png(indices, PALETTE, bits, chunks=png_chunk(b"PLTE", colours[:-3])))
    for chunks in (b"", png_chunk(b"PLTE", b"")):
        with pytest.raises(ImageError, match="palette is missing"):
            image_file.decode(png(indices, PALETTE, bits, chunks=chunks))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: with_header(file, 17, 24, 8, 5),
        lambda file: file[:8] + png_chunk(b"prVt", b"") + file[8:],
        lambda file: file[:33] + file[8:33] + file[33:],
        lambda file: file[:33] + png_chunk(b"IEND", b""),
        lambda file: file[:20],
    ],
)
def test_a_header_that_is_odd_is_damage(change: Any) -> None:
    with pytest.raises(ImageError, match=r"damaged|cut short"):
        image_file.decode(change(png(samples(3, 8), RGB)))
