"""Every kind of TIFF that is read gives the values that were put in; every other kind is refused by name."""

from __future__ import annotations

import io
import itertools
import struct
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from drivers import image_file
from drivers.image_file import ImageError
from tests.real.image_bytes import RED, encoded, plain, textured, turned
from tests.real.jpeg_bytes import FACTORS, subsampled
from tests.real.tiff_bytes import (
    CMYK,
    DEFLATE,
    JPEG,
    LZW,
    MIN_IS_BLACK,
    MIN_IS_WHITE,
    NONE,
    OLD_DEFLATE,
    PACKBITS,
    PALETTE,
    RGB,
    YCBCR,
    tiff,
    write_file,
)

SHORT = 3
COLOURS = np.random.default_rng(3).integers(0, 65536, (3, 256))
EXTRA_SAMPLES = 338
Samples = NDArray[Any]


def random_samples(count: int, bits: int, rows: int = 37, columns: int = 53) -> Samples:
    return np.random.default_rng(bits).integers(0, 1 << bits, (rows, columns, count))


def grey(samples: Samples, bits: int) -> Samples:
    """What a grey TIFF means: below 8 bits the largest value is white; above, the value moves to the top."""
    values = samples[:, :, 0]
    return values * 255 // ((1 << bits) - 1) if bits <= 8 else values << (16 - bits)


def negative(samples: Samples, bits: int) -> Samples:
    return grey((1 << bits) - 1 - samples, bits)


def bgr(samples: Samples, bits: int) -> Samples:
    return samples[:, :, 2::-1] >> (bits - 8)


def ink(samples: Samples, bits: int) -> Samples:
    paper = 255 - samples
    return (paper[:, :, :3] * paper[:, :, 3:4] // 255)[:, :, ::-1]


def looked_up(samples: Samples, bits: int) -> Samples:
    return (COLOURS[:, : 1 << bits] >> 8)[:, samples[:, :, 0]].transpose(1, 2, 0)[:, :, ::-1]


def palette(bits: int) -> tuple[int, int, list[int]]:
    return (320, SHORT, COLOURS[:, : 1 << bits].reshape(-1).tolist())


KINDS = [
    *[(MIN_IS_BLACK, 1, bits, (), grey) for bits in (1, 2, 4, 8, 10, 12, 14, 16)],
    *[(MIN_IS_WHITE, 1, bits, (), negative) for bits in (1, 2, 4, 8, 10, 12, 14, 16)],
    *[(MIN_IS_BLACK, 2, bits, ((EXTRA_SAMPLES, SHORT, [2]),), grey) for bits in (8, 16)],
    *[(RGB, 3, bits, (), bgr) for bits in (8, 16)],
    *[
        (RGB, 4, bits, ((EXTRA_SAMPLES, SHORT, [kind]),), bgr)
        for bits, kind in itertools.product((8, 16), (0, 1, 2))
    ],
    *[(PALETTE, 1, bits, (palette(bits),), looked_up) for bits in (1, 2, 4, 8)],
    (CMYK, 4, 8, (), ink),
    (CMYK, 5, 8, ((EXTRA_SAMPLES, SHORT, [0]),), ink),
]


@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("photometric", "count", "bits", "tags", "meaning"), KINDS)
def test_the_values_that_were_put_in_come_out(
    photometric: int, count: int, bits: int, tags: Any, meaning: Any, planar: bool, tile: Any
) -> None:
    samples = random_samples(count, bits)
    wanted = meaning(samples, bits)
    for order, big, compression in itertools.product("<>", (False, True), (NONE, DEFLATE, PACKBITS, LZW)):
        file = tiff(
            samples,
            photometric,
            bits,
            planar=planar,
            tile=tile,
            rows_per_strip=8,
            compression=compression,
            order=order,
            big=big,
            tags=tags,
        )
        read = image_file.decode_any_depth(file)
        assert read.dtype == (np.uint16 if wanted.ndim == 2 and bits > 8 else np.uint8)
        assert np.array_equal(read, wanted)


@pytest.mark.parametrize("compression", [DEFLATE, OLD_DEFLATE, LZW])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_differences_to_the_pixel_on_the_left_are_summed(compression: int, bits: int, planar: bool) -> None:
    samples = random_samples(3, bits)
    file = tiff(samples, RGB, bits, planar=planar, compression=compression, predictor=2, rows_per_strip=5)
    assert np.array_equal(image_file.decode(file), bgr(samples, bits))


def test_one_strip_and_many_are_one_image() -> None:
    samples = random_samples(3, 16)
    for rows in (0, 1, 7, 100):
        file = tiff(samples, RGB, 16, planar=True, rows_per_strip=rows)
        assert np.array_equal(image_file.decode(file), bgr(samples, 16))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_image_is_turned_as_its_tag_says(orientation: int, bits: int) -> None:
    samples = random_samples(3, bits, rows=3, columns=5)
    file = tiff(samples, RGB, bits, tags=[(274, SHORT, [orientation])])
    assert np.array_equal(image_file.decode(file), turned(bgr(samples, bits), orientation))


def test_a_palette_of_8_bit_values_is_taken_as_it_is() -> None:
    """Some old programs write colours from 0 to 255 where 0 to 65535 belong."""
    samples = random_samples(1, 8)
    few = COLOURS & 255
    file = tiff(samples, PALETTE, tags=[(320, SHORT, few.reshape(-1).tolist())])
    assert np.array_equal(image_file.decode(file), few[:, samples[:, :, 0]].transpose(1, 2, 0)[:, :, ::-1])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"])
def test_what_libtiff_writes_comes_out(compression: str) -> None:
    assert np.array_equal(image_file.decode(encoded("TIFF", compression=compression)), textured()[:, :, ::-1])
    wide = textured()[:, :, 0].astype(np.uint16) * 257
    assert np.array_equal(image_file.decode_any_depth(saved(wide, compression=compression)), wide)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("photometric", [MIN_IS_WHITE, MIN_IS_BLACK])
def test_black_and_white_comes_out(compression: str, photometric: int) -> None:
    white = textured()[:, :, 0] > 128
    file = saved(white, compression=compression, tiffinfo={262: photometric})
    assert np.array_equal(image_file.decode(file), white * 255)


def test_jpeg_inside_a_tiff_is_read_as_a_jpeg_is() -> None:
    """Photometric interpretation YCbCr: the strips are what JPEG files hold."""
    image = textured()
    strips = [cv2.imencode(".jpg", image[top : top + 64])[1].tobytes() for top in (0, 64)]
    wanted = np.concatenate([image_file.decode(strip) for strip in strips])
    file = jpeg_tiff(strips, YCBCR, 3, extra=[(530, SHORT, [2, 2])])
    assert np.array_equal(image_file.decode(file), wanted)
    assert np.abs(wanted.astype(int) - image).mean() < 3


def test_jpeg_tiles_are_read_as_jpegs_are() -> None:
    image = textured(100, 70)
    padded = np.pad(image, ((0, 28), (0, 58), (0, 0)), mode="edge")
    tiles = [
        cv2.imencode(".jpg", np.ascontiguousarray(padded[top : top + 64, left : left + 64]))[1].tobytes()
        for top in (0, 64)
        for left in (0, 64)
    ]
    read = [image_file.decode(tile) for tile in tiles]
    wanted = np.concatenate([np.concatenate(read[:2], axis=1), np.concatenate(read[2:], axis=1)])[:100, :70]
    entries = [
        *((256, 4, [70]), (257, 4, [100]), (258, SHORT, [8, 8, 8]), (259, SHORT, [JPEG])),
        *((262, SHORT, [YCBCR]), (277, SHORT, [3]), (284, SHORT, [1]), (530, SHORT, [2, 2])),
        *((322, SHORT, [64]), (323, SHORT, [64])),
    ]
    file = write_file(tiles, entries, (324, 325))
    assert np.array_equal(image_file.decode(file), wanted)


def test_cmyk_jpeg_inside_a_tiff_gives_the_pixels_of_another_decoder() -> None:
    ink_values = np.random.default_rng(1).integers(0, 256, (40, 56, 4), np.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(ink_values, "CMYK").save(out, "TIFF", compression="jpeg", quality=95)
    other = cv2.imdecode(np.frombuffer(out.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(image_file.decode(out.getvalue()), other)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_ccitt_is_refused_by_name(compression: str) -> None:
    """Its decoders fill what is damaged or cut short with black."""
    file = saved(textured()[:, :, 0] > 128, compression=compression)
    with pytest.raises(ImageError, match=r"CCITT\w+ compression: save it with none, LZW"):
        image_file.decode(file)


@pytest.mark.parametrize("compression", ["raw", "packbits"])
def test_reversed_bits_of_a_black_and_white_image_are_put_right(compression: str) -> None:
    """FillOrder 2, as fax machines write it."""
    white = textured()[:, :, 0] > 128
    file = saved(white, compression=compression)
    page = PIL.Image.open(io.BytesIO(file)).tag_v2  # type: ignore[attr-defined]
    turned_over = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
    strips = [
        file[at : at + size].translate(turned_over) for at, size in zip(page[273], page[279], strict=True)
    ]
    entries = [
        *((256, 4, [128]), (257, 4, [128]), (258, SHORT, [1]), (259, SHORT, [page[259]])),
        *((262, SHORT, [page[262]]), (266, SHORT, [2]), (277, SHORT, [1]), (278, 4, [page[278]])),
    ]
    assert np.array_equal(image_file.decode(write_file(strips, entries, (273, 279))), white * 255)


def test_jpeg_inside_a_tiff_may_hold_rgb_and_grey() -> None:
    image = textured()
    strips = []
    for top in (0, 64):
        out = io.BytesIO()
        PIL.Image.fromarray(image[top : top + 64, :, ::-1]).save(out, "JPEG", quality=100, keep_rgb=True)
        strips.append(out.getvalue())
    read = image_file.decode(jpeg_tiff(strips, RGB, 3))
    assert np.abs(read.astype(int) - image).max() <= 3
    strips = [cv2.imencode(".jpg", image[top : top + 64, :, 0], [1, 100])[1].tobytes() for top in (0, 64)]
    read = image_file.decode(jpeg_tiff(strips, MIN_IS_BLACK, 1))
    assert read.ndim == 2
    assert np.abs(read.astype(int) - image[:, :, 0]).max() <= 3


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (lambda: tiff(random_samples(1, 16), MIN_IS_BLACK, 16, tags=[(339, SHORT, [2])]), "INT"),
        (lambda: saved(np.zeros((8, 8), np.float32)), "IEEEFP"),
        (lambda: tiff(random_samples(1, 32), MIN_IS_BLACK, 32), "32 bits"),
        (lambda: tiff(random_samples(4, 16), CMYK, 16), "16 bits"),
        (lambda: tiff(random_samples(3, 4), RGB, 4), "4 bits"),
        (lambda: tiff(random_samples(3, 8), YCBCR), "YCbCr"),
        (lambda: tiff(random_samples(3, 8), 8), "CIELAB"),
        (lambda: tiff(random_samples(1, 8), 32803), "CFA"),
        (lambda: tiff(random_samples(1, 16), PALETTE, 16), "16 bits"),
        (lambda: compressed_as(50000), "ZSTD compression"),
        (lambda: compressed_as(34712), "JPEG2000 compression"),
        (lambda: compressed_as(6), "OJPEG compression"),
        (lambda: tiff(random_samples(3, 8), RGB, compression=DEFLATE, tags=[(317, SHORT, [3])]), "predictor"),
        (lambda: tiff(random_samples(3, 8), RGB, predictor=2), "predictor"),
        (lambda: tiff(random_samples(3, 8), RGB, compression=PACKBITS, predictor=2), "predictor"),
        (lambda: tiff(random_samples(2, 8), RGB), "2 channels"),
        (lambda: compressed_as(JPEG, planar=True), "RGB with JPEG"),
        (lambda: compressed_as(4), "CCITTFAX4 compression"),
        (lambda: compressed_as(LZW, tags=[(266, SHORT, [2])], bits=1), "reversed bits and LZW"),
        (lambda: tiff(random_samples(3, 8), RGB, tags=[(266, SHORT, [2])]), "reversed bits"),
        (lambda: tiff(random_samples(1, 8), PALETTE), "palette is missing"),
        *[
            (lambda kind=kind, count=count, planar=planar: many_channels(kind, count, planar), words)
            for planar in (False, True)
            for kind, count, words in (
                (MIN_IS_BLACK, 2, "BLACK with 2 channels"),
                (MIN_IS_BLACK, 3, "BLACK with 3 channels"),
                (MIN_IS_WHITE, 4, "WHITE with 4 channels"),
                (PALETTE, 3, "PALETTE with 3 channels"),
                (RGB, 5, "RGB with 5 channels"),
                (CMYK, 5, "SEPARATED with 5 channels"),
            )
        ],
        (lambda: many_channels(MIN_IS_BLACK, 3, tags=[(EXTRA_SAMPLES, SHORT, [0, 0])]), "3 channels"),
        *[
            (lambda kind=kind, count=count, bits=bits: without_meaning(kind, count, bits), "samples mean")
            for kind, count, bits in (
                (MIN_IS_BLACK, 1, 8),
                (MIN_IS_BLACK, 1, 16),
                (MIN_IS_WHITE, 1, 1),
                (RGB, 3, 8),
            )
        ],
    ],
)
def test_a_kind_that_is_not_read_is_named_with_the_fix(file: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words) as refused:
        image_file.decode(file())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("compression", [NONE, DEFLATE, PACKBITS, LZW])
@pytest.mark.parametrize("planar", [False, True])
def test_a_missing_strip_is_damage(compression: int, planar: bool) -> None:
    """tifffile would fill it with zeros."""
    samples = random_samples(3, 8)
    pieces = [tiff(samples, RGB, compression=compression, planar=planar, rows_per_strip=8)]
    for tag in (273, 279):
        pieces.append(with_zero(pieces[0], tag))
    for broken in pieces[1:]:
        with pytest.raises(ImageError, match="damaged"):
            image_file.decode(broken)


@pytest.mark.parametrize("compression", [NONE, DEFLATE, PACKBITS, LZW])
@pytest.mark.parametrize("layout", [{"rows_per_strip": 8}, {"rows_per_strip": 8, "planar": True}, {}])
@pytest.mark.parametrize("columns", [26, 52, 54])
def test_a_damaged_width_is_noticed(compression: int, layout: dict[str, Any], columns: int) -> None:
    """Other decoders read a skewed image where each strip has more than a smaller width needs."""
    file = tiff(random_samples(3, 8), RGB, compression=compression, **layout)
    other = file.replace(struct.pack("<HHII", 256, 4, 1, 53), struct.pack("<HHII", 256, 4, 1, columns))
    assert other != file
    with pytest.raises(ImageError, match=r"damaged|cut short"):
        image_file.decode(other)


@pytest.mark.parametrize("compression", [NONE, DEFLATE, PACKBITS, LZW])
@pytest.mark.parametrize("layout", [{"rows_per_strip": 8}, {"tile": (16, 16)}])
def test_more_strips_or_tiles_than_the_size_needs_are_damage(
    compression: int, layout: dict[str, Any]
) -> None:
    file = tiff(random_samples(3, 8), RGB, compression=compression, **layout)
    for tag, value, other in ((256, 53, 32), (257, 37, 16)):
        damaged = file.replace(struct.pack("<HHII", tag, 4, 1, value), struct.pack("<HHII", tag, 4, 1, other))
        assert damaged != file
        with pytest.raises(ImageError, match="damaged"):
            image_file.decode(damaged)


@pytest.mark.parametrize("tag", [322, 323])
def test_tiles_without_a_size_are_damage(tag: int, capfd: pytest.CaptureFixture[str]) -> None:
    file = tiff(random_samples(3, 8), RGB, compression=DEFLATE, tile=(16, 16))
    damaged = file.replace(struct.pack("<HHIH", tag, SHORT, 1, 16), struct.pack("<HHIH", tag, SHORT, 1, 0))
    assert damaged != file
    with pytest.raises(ImageError, match="damaged"):
        image_file.decode(damaged)
    assert capfd.readouterr().err == ""


def test_jpeg_strips_of_another_size_or_without_colours_are_damage() -> None:
    image = textured()
    strips = [cv2.imencode(".jpg", image[top : top + 64])[1].tobytes() for top in (0, 64)]
    narrow = cv2.imencode(".jpg", image[:64, :64])[1].tobytes()
    wide = cv2.imencode(".jpg", np.hstack([image[:32], image[:32]]))[1].tobytes()
    grey = cv2.imencode(".jpg", image[:64, :, 0])[1].tobytes()
    for other in (narrow, wide, grey):
        with pytest.raises(ImageError, match="damaged"):
            image_file.decode(jpeg_tiff([strips[0], other], YCBCR, 3, extra=[(530, SHORT, [2, 2])]))


def test_a_last_strip_that_is_filled_up_is_read() -> None:
    """Some programs write all strips with the same number of rows."""
    samples = random_samples(3, 8, rows=21)
    full = np.concatenate([samples, np.zeros((3, 53, 3), samples.dtype)])
    declared, real = (struct.pack("<HHII", 257, 4, 1, count) for count in (24, 21))
    for compression in (NONE, LZW):
        file = tiff(full, RGB, compression=compression, rows_per_strip=8).replace(declared, real)
        assert np.array_equal(image_file.decode(file), bgr(samples, 8))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("place", [1, 2, 3, 50, 200])
def test_a_flipped_bit_of_lzw_data_ends_no_program(bits: int, place: int) -> None:
    """A code that is undefined after a Clear code once ended the process that read it."""
    file = bytearray(tiff(random_samples(1, bits), MIN_IS_BLACK, bits, compression=LZW))
    for bit in range(8):
        file[8 + place] ^= 1 << bit
        with suppress(ImageError):
            image_file.decode(bytes(file))
        file[8 + place] ^= 1 << bit
    file[9] |= 0x40
    with pytest.raises(ImageError, match="undefined code"):
        image_file.decode(bytes(file))


def test_a_strip_that_is_too_short_is_damage() -> None:
    whole = [bytes(64 * 3) for _ in range(8)]
    for short in (whole[:-1], [*whole[:-1], whole[-1][:-5]]):
        file = write_file(
            short,
            [
                (256, 4, [64]),
                (257, 4, [8]),
                (258, 3, [8, 8, 8]),
                (259, 3, [NONE]),
                (262, 3, [RGB]),
                (277, 3, [3]),
                (278, 4, [1]),
                (284, 3, [1]),
            ],
            (273, 279),
        )
        with pytest.raises(ImageError, match=r"damaged|cut short"):
            image_file.decode(file)


def test_a_header_that_asks_for_more_than_the_memory_is_refused() -> None:
    file = tiff(np.zeros((8, 8, 1), np.uint8), MIN_IS_BLACK)
    for size in (2**31 - 1, 2**20):
        giant = file.replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, size))
        giant = giant.replace(struct.pack("<HHII", 257, 4, 1, 8), struct.pack("<HHII", 257, 4, 1, size))
        with pytest.raises(ImageError, match="million"):
            image_file.decode(giant)


@pytest.mark.parametrize("factors", FACTORS)
def test_a_jpeg_with_unusual_subsampling_in_a_tiff_gives_the_pixels_of_the_jpeg(
    factors: tuple[int, int, int],
) -> None:
    jpeg = subsampled(factors)
    size = [(256, 4, [37]), (257, 4, [21]), (278, 4, [21])]
    kind = [(258, SHORT, [8] * 3), (259, SHORT, [JPEG]), (262, SHORT, [YCBCR])]
    file = write_file([jpeg], [*size, *kind, (277, SHORT, [3]), (284, SHORT, [1])], (273, 279))
    assert np.array_equal(image_file.decode(file), image_file.decode(jpeg))


def saved(image: Samples, **settings: Any) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "TIFF", **settings)
    return out.getvalue()


def jpeg_tiff(strips: list[bytes], photometric: int, count: int, extra: Any = ()) -> bytes:
    return write_file(
        strips,
        [
            (256, 4, [128]),
            (257, 4, [128]),
            (258, SHORT, [8] * count),
            (259, SHORT, [JPEG]),
            (262, SHORT, [photometric]),
            (277, SHORT, [count]),
            (278, 4, [64]),
            (284, SHORT, [1]),
            *extra,
        ],
        (273, 279),
    )


def compressed_as(compression: int, planar: bool = False, bits: int = 8, tags: Any = ()) -> bytes:
    samples, kind = (plain(RED), RGB) if bits == 8 else (random_samples(1, bits), MIN_IS_BLACK)
    file = tiff(samples.astype(np.int64), kind, bits, compression=NONE, planar=planar, tags=tags)
    return file.replace(
        struct.pack("<HHIH", 259, SHORT, 1, NONE), struct.pack("<HHIH", 259, SHORT, 1, compression)
    )


def many_channels(photometric: int, count: int, planar: bool = False, tags: Any = ()) -> bytes:
    tags = [palette(8), *tags] if photometric == PALETTE else tags
    return tiff(random_samples(count, 8), photometric, planar=planar, tags=tags)


def without_meaning(photometric: int, count: int, bits: int) -> bytes:
    """The file without its PhotometricInterpretation, in whose place stands a private tag."""
    file = tiff(random_samples(count, bits), photometric, bits)
    tag = struct.pack("<HHIH", 262, SHORT, 1, photometric)
    assert tag in file
    return file.replace(tag, struct.pack("<HHIH", 65000, SHORT, 1, photometric))


def with_zero(file: bytes, tag: int) -> bytes:
    """The file with a zero as the second of the values of `tag`, which stand somewhere else in it."""
    at = file.index(struct.pack("<HH", tag, 4), struct.unpack_from("<I", file, 4)[0])
    place = struct.unpack_from("<I", file, at + 8)[0] + 4
    return file[:place] + bytes(4) + file[place + 4 :]
