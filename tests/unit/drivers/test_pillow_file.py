"""Every kind of PNG, BMP and WebP that is read gives the values that were put in."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from drivers import image_file
from drivers.image_file import ImageError
from tests.real.bmp_bytes import BITFIELDS, RLE4, RLE8, bmp, wrap
from tests.real.image_bytes import encoded, exif, flipped, png_chunk, textured, turned, zeroed
from tests.real.png_bytes import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, png

RANDOM = np.random.default_rng(5)
COLOURS = RANDOM.integers(0, 256, (256, 3), np.uint8)
Samples = NDArray[Any]


def random_samples(count: int, bits: int, rows: int = 13, columns: int = 17) -> Samples:
    return np.random.default_rng(bits).integers(0, 1 << bits, (rows, columns, count))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("colour", "count", "bits"),
    [
        *[(GREY, 1, bits) for bits in (1, 2, 4, 8, 16)],
        *[(colour, count, bits) for colour, count in ((RGB, 3), (RGB_ALPHA, 4)) for bits in (8, 16)],
    ],
)
def test_the_values_in_a_png_come_out(colour: int, count: int, bits: int, interlaced: bool) -> None:
    samples = random_samples(count, bits)
    read = image_file.decode_any_depth(png(samples, colour, bits, interlaced=interlaced))
    if colour == GREY:
        wanted = samples[:, :, 0] if bits > 8 else samples[:, :, 0] * 255 // ((1 << bits) - 1)
    else:
        wanted = samples[:, :, 2::-1] >> (bits - 8)
    assert read.dtype == (np.uint16 if colour == GREY and bits == 16 else np.uint8)
    assert np.array_equal(read, wanted)


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_with_alpha_in_a_png_comes_out_without_it(bits: int) -> None:
    samples = random_samples(2, bits)
    read = image_file.decode(png(samples, GREY_ALPHA, bits))
    assert np.array_equal(read, np.repeat(samples[:, :, :1] >> (bits - 8), 3, axis=2))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("alpha", [b"", png_chunk(b"tRNS", bytes(2))])
def test_the_palette_of_a_png_is_looked_up(bits: int, alpha: bytes) -> None:
    samples = random_samples(1, bits)
    palette = png_chunk(b"PLTE", COLOURS[: 1 << bits].tobytes())
    read = image_file.decode(png(samples, PALETTE, bits, chunks=palette + alpha))
    assert np.array_equal(read, COLOURS[samples[:, :, 0]][:, :, ::-1])


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tRNS", b"\0\5"),
        png_chunk(b"gAMA", struct.pack(">I", 100000)),
        png_chunk(b"sBIT", b"\5"),
        png_chunk(b"bKGD", b"\0\5"),
        png_chunk(b"iCCP", b"known incorrect\0\0" + b"not a profile"),
        png_chunk(b"prVt", b"a camera's own"),
        png_chunk(b"eXIf", b"nonsense"),
        png_chunk(b"tIME", b"\0\0\0\0\0\0\0"),
    ],
)
def test_what_else_a_png_says_changes_no_value(chunk: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    samples = random_samples(1, 8)
    assert np.array_equal(image_file.decode(png(samples, GREY, chunks=chunk)), samples[:, :, 0])
    assert capfd.readouterr().err == ""


def compressed(text: bytes) -> bytes:
    return zlib.compress(text, 9)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + compressed(bytes([120]) * 5_000_000))],
        [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes([120]) * 3_000_000)],
        [(b"zTXt", b"Raw profile type xmp\0\0" + compressed(bytes([120]) * 2_000_000))],
        [(b"iCCP", b"profile\0\0" + compressed(bytes(3_000_000)))],
        [(b"zTXt", b"key%d\0\0" % key + compressed(bytes([120]) * 900_000)) for key in range(80)],
    ],
)
def test_long_texts_and_profiles_in_a_png_change_no_value(chunks: list[tuple[bytes, bytes]]) -> None:
    plain_file = encoded("PNG")
    at = plain_file.index(b"IDAT") - 4
    file = plain_file[:at] + b"".join(png_chunk(*one) for one in chunks) + plain_file[at:]
    assert np.array_equal(image_file.decode(file), image_file.decode(plain_file))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_png_and_webp_are_turned_as_exif_says(orientation: int) -> None:
    samples = random_samples(3, 8)
    stored = samples[:, :, ::-1]
    file = png(samples, RGB, chunks=png_chunk(b"eXIf", exif(orientation)))
    assert np.array_equal(image_file.decode(file), turned(stored, orientation))
    out = io.BytesIO()
    picture = PIL.Image.fromarray(samples.astype(np.uint8))
    picture.save(out, "WEBP", lossless=True, exif=b"Exif\0\0" + exif(orientation))
    assert np.array_equal(image_file.decode(out.getvalue()), turned(stored, orientation))


def test_any_flipped_bit_of_a_png_shows() -> None:
    file = encoded("PNG")
    for at in (*range(8, 60), *range(60, len(file), 311)):
        with pytest.raises(ImageError):
            image_file.decode(flipped(file, at))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_every_cut_shows(kind: str) -> None:
    file = encoded(kind)
    for length in (*range(1, 70), *range(70, len(file) - 13, len(file) // 60)):
        with pytest.raises(ImageError):
            image_file.decode(file[:length])


def test_zeros_in_a_webp_never_pass_for_the_image_or_end_the_program() -> None:
    file = encoded("WEBP")
    whole = image_file.decode(file)
    for at in range(30, len(file) - 100, 50):
        try:
            read = image_file.decode(zeroed(file, at, 100))
        except ImageError:
            continue
        assert read.shape == whole.shape


def packed(indices: Samples, bits: int) -> list[bytes]:
    ones = (indices[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in ones]


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("settings", [{}, {"top_down": True}, {"core": True}])
@pytest.mark.parametrize("grey", [False, True])
def test_the_palette_of_a_bmp_is_looked_up(bits: int, settings: dict[str, bool], grey: bool) -> None:
    indices = random_samples(1, bits)[:, :, 0]
    count = 1 << bits
    colours = np.repeat(np.arange(count) * 255 // (count - 1), 3).reshape(-1, 3) if grey else COLOURS[:count]
    palette = colours.astype(np.uint8)
    read = image_file.decode(bmp(packed(indices, bits), 17, bits, palette=palette, **settings))
    wanted = palette[indices]
    assert np.array_equal(read if read.ndim == 3 else np.repeat(read[:, :, None], 3, 2), wanted)


@pytest.mark.parametrize("settings", [{}, {"top_down": True}, {"core": True}])
def test_a_bmp_of_24_bits_comes_out(settings: dict[str, bool]) -> None:
    """OpenCV 5.0 reads those with OS/2's header as grey."""
    wanted = random_samples(3, 8).astype(np.uint8)
    assert np.array_equal(image_file.decode(bmp([r.tobytes() for r in wanted], 17, 24, **settings)), wanted)


def test_a_bmp_of_32_bits_comes_out_without_its_fourth_byte() -> None:
    wanted = random_samples(4, 8).astype(np.uint8)
    rows = [row.tobytes() for row in wanted]
    assert np.array_equal(image_file.decode(bmp(rows, 17, 32)), wanted[:, :, :3])
    file = bmp(rows, 17, 32, compression=BITFIELDS, masks=(0xFF0000, 0xFF00, 0xFF))
    assert np.array_equal(image_file.decode(file), wanted[:, :, :3])


def test_a_bmp_of_16_bits_is_shifted_not_stretched() -> None:
    values = random_samples(1, 16)[:, :, 0]
    rows = [row.astype("<u2").tobytes() for row in values]
    wanted = np.dstack([values & 31, values >> 5 & 31, values >> 10 & 31]) << 3
    assert np.array_equal(image_file.decode(bmp(rows, 17, 16)), wanted)
    wanted = np.dstack([(values & 31) << 3, (values >> 5 & 63) << 2, (values >> 11) << 3])
    file = bmp(rows, 17, 16, compression=BITFIELDS, masks=(0xF800, 0x7E0, 0x1F))
    assert np.array_equal(image_file.decode(file), wanted)


@pytest.mark.parametrize(("compression", "bits"), [(RLE8, 8), (RLE4, 4)])
def test_a_run_length_encoded_bmp_comes_out(compression: int, bits: int) -> None:
    indices = random_samples(1, bits)[:, :, 0]
    lines = [b"".join(bytes([1, int(i) << (8 - bits)]) for i in row) + b"\0\0" for row in indices[::-1]]
    palette = COLOURS[: 1 << bits]
    whole = b"".join(lines)
    read = image_file.decode(wrap(whole + b"\0\1", 17, 13, bits, palette, compression))
    assert np.array_equal(read, palette[indices])
    with pytest.raises(ImageError, match="damaged"):
        image_file.decode(wrap(whole[: len(whole) // 2], 17, 13, bits, palette, compression))


def test_what_no_test_covers_is_refused() -> None:
    rows = [bytes(4 * 17)] * 13
    with pytest.raises(ImageError, match="Unsupported"):
        image_file.decode(bmp(rows, 17, 32, compression=BITFIELDS, masks=(0x3FF00000, 0xFFC00, 0x3FF)))
    for kind in ("GIF", "PPM", "JPEG2000", "TGA", "ICO"):
        with pytest.raises(ImageError, match="only PNG, JPEG, BMP, TIFF and WebP"):
            image_file.decode(encoded(kind))


@pytest.mark.parametrize("settings", [{"lossless": True}, {"quality": 30}, {"quality": 95, "method": 6}])
def test_a_webp_gives_the_pixels_of_another_decoder(settings: dict[str, Any]) -> None:
    file = encoded("WEBP", **settings)
    assert np.array_equal(
        image_file.decode(file), cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    )
    if "lossless" in settings:
        assert np.array_equal(image_file.decode(file), textured()[:, :, ::-1])


def test_the_alpha_of_a_webp_is_dropped() -> None:
    seen_through = random_samples(4, 8).astype(np.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(seen_through).save(out, "WEBP", lossless=True, exact=True)
    assert np.array_equal(image_file.decode(out.getvalue()), seen_through[:, :, 2::-1])


@pytest.mark.parametrize(
    "file",
    [
        wrap(b"", 131392, 131392, 24),
        wrap(b"", 2**31 - 1, 2**31 - 1, 24),
        png(random_samples(1, 8), GREY).replace(
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", 17, 13, 8, 0, 0, 0, 0)),
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)),
        ),
    ],
)
def test_a_size_that_no_image_has_is_refused(file: bytes) -> None:
    with pytest.raises(ImageError, match="million"):
        image_file.decode(file)
