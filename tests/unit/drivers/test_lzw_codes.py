"""LZW data is known to be safe to decode, and its length is known, before any decoder sees it."""

from __future__ import annotations

import time

import imagecodecs
import numpy as np
import pytest

from drivers.image_limits import ImageError
from drivers.lzw_codes import count_decoded_bytes

CLEAR, END = 256, 257


def nine_bits(*codes: int) -> bytes:
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


@pytest.mark.parametrize("length", [1, 2, 3, 255, 256, 511, 4000, 70_000, 300_000])
@pytest.mark.parametrize("levels", [1, 2, 256])
def test_the_length_is_that_of_the_bytes_that_were_put_in(length: int, levels: int) -> None:
    """Long data has codes of 9 to 12 bits and several Clear codes."""
    content = np.random.default_rng(length).integers(0, levels, length, np.uint8).tobytes()
    assert count_decoded_bytes(imagecodecs.lzw_encode(content)) == length


@pytest.mark.parametrize(
    ("codes", "length"),
    [
        ((CLEAR, 65, 66, 258, END), 4),
        ((CLEAR, 65, 258, 259, END), 6),
        ((CLEAR, 65, 66), 2),
        ((CLEAR, CLEAR, 65, CLEAR, 66, END), 2),
        ((CLEAR, 65, END, 400), 1),
        ((CLEAR, END), 0),
    ],
)
def test_codes_stand_for_what_was_before_them(codes: tuple[int, ...], length: int) -> None:
    assert count_decoded_bytes(nine_bits(*codes)) == length


@pytest.mark.parametrize(
    "codes",
    [
        (CLEAR, 258, 65, END),
        (CLEAR, 300, END),
        (CLEAR, 511, END),
        (CLEAR, 65, CLEAR, 300, END),
        (CLEAR, CLEAR, 300, END),
        (CLEAR, 65, 66, 258, CLEAR, 400, END),
        (CLEAR, 65, 259, END),
        (CLEAR, 65, 66, 300, END),
    ],
)
def test_an_undefined_code_is_damage(codes: tuple[int, ...]) -> None:
    """After a Clear code imagecodecs follows it into memory that is not its own."""
    with pytest.raises(ImageError, match="undefined code"):
        count_decoded_bytes(nine_bits(*codes))


@pytest.mark.parametrize("piece", [b"", b"\x80", nine_bits(65, 66, END), nine_bits(END), bytes(50)])
def test_data_that_does_not_begin_with_clear_is_damage(piece: bytes) -> None:
    with pytest.raises(ImageError, match="begin with a Clear"):
        count_decoded_bytes(piece)


def test_the_order_of_bits_of_old_programs_is_named_with_the_fix() -> None:
    with pytest.raises(ImageError, match="before 1992: save it"):
        count_decoded_bytes(b"\0\1" + bytes(50))


def test_damage_costs_no_minutes() -> None:
    clears = np.packbits(np.tile(np.array([1, *[0] * 8], np.uint8), 1_000_000)).tobytes()
    start = time.process_time()
    with pytest.raises(ImageError, match="too many Clear"):
        count_decoded_bytes(clears[:100_000])
    with pytest.raises(ImageError, match="without a Clear"):
        count_decoded_bytes(nine_bits(CLEAR, *[0] * 7) + bytes(100_000))
    assert time.process_time() - start < 2


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_safe_is_decoded_to_that_length(seed: int) -> None:
    random = np.random.default_rng(seed)
    whole = imagecodecs.lzw_encode(random.integers(0, 4, 3000, np.uint8).tobytes())
    safe = 0
    for _ in range(100):
        piece = bytearray(whole)
        piece[int(random.integers(len(piece)))] ^= 1 << int(random.integers(8))
        try:
            length = count_decoded_bytes(bytes(piece))
        except ImageError:
            continue
        safe += 1
        assert len(imagecodecs.lzw_decode(bytes(piece), out=length + 100)) == length
    assert safe > 10
