"""Every palette of a BMP gives the colours that were put in; a pixel beyond it is damage."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers import image_file
from drivers.image_file import ImageError
from tests.real.bmp_bytes import RLE8, bmp, wrap

RAMPS = [[0, 255], [255, 0], [0, 1], [0], list(range(16)), list(range(10)), [0, 128, 255]]


def indices(colours: int) -> NDArray[np.uint8]:
    return np.random.default_rng(colours).integers(0, colours, (13, 17), np.uint8)


def packed(values: NDArray[np.uint8], bits: int) -> list[bytes]:
    ones = (values[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1)).tobytes() for row in ones]


def as_colours(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, 2)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("ramp", RAMPS)
def test_a_palette_of_few_greys_is_looked_up(bits: int, ramp: list[int]) -> None:
    """Pillow reads 8 bits as 1 where the palette is black and white."""
    if len(ramp) > 1 << bits:
        return
    palette = np.repeat(np.array(ramp, np.uint8)[:, None], 3, 1)
    values = indices(len(ramp))
    read = image_file.decode(bmp(packed(values, bits), 17, bits, palette=palette))
    assert np.array_equal(as_colours(read), palette[values])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("grey", [False, True])
def test_an_index_beyond_the_palette_is_damage(bits: int, grey: bool) -> None:
    values = indices(10)
    palette = np.repeat(np.arange(10, dtype=np.uint8)[:, None], 3, 1)
    palette[1, 0] += 0 if grey else 7
    image_file.decode(bmp(packed(values, bits), 17, bits, palette=palette))
    with pytest.raises(ImageError, match="beyond the 9"):
        image_file.decode(bmp(packed(values, bits), 17, bits, palette=palette[:9]))


def test_a_palette_that_reaches_into_the_pixels_has_fewer_colours() -> None:
    """The header may say more colours than stand before the pixels."""
    values = indices(10)
    file = bmp(packed(values, 8), 17, 8, palette=np.full((10, 3), 7, np.uint8))
    assert (image_file.decode(file[:46] + struct.pack("<I", 0) + file[50:]) == 7).all()
    short = file[:10] + struct.pack("<I", 54 + 9 * 4) + file[14:46] + struct.pack("<I", 0) + file[50:]
    with pytest.raises(ImageError, match="beyond the 9"):
        image_file.decode(short)


def test_run_lengths_may_have_a_palette_of_black_and_white() -> None:
    values = indices(2)
    lines = [b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in values[::-1]]
    palette = np.array([[0] * 3, [255] * 3], np.uint8)
    read = image_file.decode(wrap(b"".join(lines) + b"\0\1", 17, 13, 8, palette, RLE8))
    assert np.array_equal(as_colours(read), palette[values])
