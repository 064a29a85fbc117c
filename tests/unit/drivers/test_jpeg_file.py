"""A JPEG that the standard allows is read with the pixels of other decoders; a damaged one is refused."""

from __future__ import annotations

import io
import itertools
import re
import struct
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import pytest

from drivers import image_file
from drivers.image_file import ImageError
from tests.real.image_bytes import encoded, exif, scan, textured, turned

PLAIN = cv2.imencode(".jpg", textured(), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
TABLE, FRAME, CODES, SCAN = b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda"
END = b"\xff\xd9"
COMMENT = b"\xff\xfe\0\4ab"


def before(marker: bytes, added: bytes) -> bytes:
    """The plain file with bytes added before its first marker of that kind."""
    at = len(PLAIN) - 2 if marker == END else PLAIN.index(marker)
    return PLAIN[:at] + added + PLAIN[at:]


def other_decoder(file: bytes) -> image_file.Image:
    """libjpeg through OpenCV, which lets damage pass but reads whole files right."""
    return np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_ANYCOLOR))


ADDED = [b"\xff", b"\xff" * 5, COMMENT, b"\xff\xfe\0\2", bytes(16), bytes(608) + COMMENT]


@pytest.mark.parametrize(
    ("marker", "added"),
    [
        *itertools.product([TABLE, FRAME, CODES, SCAN, END], ADDED),
        *((marker, b"\xff\x01") for marker in (TABLE, FRAME, CODES, SCAN)),
    ],
)
def test_what_may_stand_before_a_marker_changes_no_pixel(marker: bytes, added: bytes) -> None:
    """Fill bytes, comments and TEM are allowed; zeros between segments are left by some network cameras."""
    file = before(marker, added)
    assert np.array_equal(image_file.decode(file), image_file.decode(PLAIN))


@pytest.mark.parametrize("marker", [TABLE, FRAME, CODES, SCAN])
def test_bytes_of_any_kind_between_segments_change_no_pixel(marker: bytes) -> None:
    file = before(marker, b"left by a camera \xff\0 and more")
    assert np.array_equal(image_file.decode(file), image_file.decode(PLAIN))


@pytest.mark.parametrize("zeros", [1, 2, 3, 7, 100, 2000])
def test_zeros_before_the_end_are_no_damage(zeros: int) -> None:
    """Cameras that send whole words fill the image data up with zeros."""
    assert np.array_equal(image_file.decode(before(END, bytes(zeros))), image_file.decode(PLAIN))


def test_zeros_after_stuffed_image_data_are_no_damage() -> None:
    """Image data may end with 0xFF 0x00, whose zero is no padding."""
    ends = [encoded_grey(level) for level in range(256)]
    stuffed = [file for file in ends if file.endswith(b"\xff\0\xff\xd9")]
    assert stuffed
    for file in stuffed[:3]:
        padded = file[:-2] + bytes(5) + file[-2:]
        assert np.array_equal(image_file.decode(padded), image_file.decode(file))


@pytest.mark.parametrize("word", [2, 4, 16])
@pytest.mark.parametrize("image", [textured(), textured()[:, :, 0], textured(61, 83)])
def test_zeros_before_every_restart_marker_are_no_damage(image: image_file.Image, word: int) -> None:
    """Each interval is filled up to whole words; the last one ends with the file."""
    file = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1]
    whole = file.tobytes()
    pieces = re.split(rb"(\xff[\xd0-\xd7])", whole[scan(whole) :])
    assert len(pieces) > 40
    assert any(data.endswith(b"\xff\0") for data in pieces[:-1:2])
    padded = [data + bytes(-len(data) % word) if n % 2 == 0 else data for n, data in enumerate(pieces[:-1])]
    read = image_file.decode(whole[: scan(whole)] + b"".join(padded) + pieces[-1])
    assert np.array_equal(read, other_decoder(whole))


def test_zeros_in_the_place_of_an_intervals_image_data_are_damage() -> None:
    file = cv2.imencode(".jpg", textured(), [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[
        1
    ]
    whole = file.tobytes()
    end = whole.index(b"\xff\xd3")
    with pytest.raises(ImageError, match="damaged"):
        image_file.decode(whole[: end - 40] + bytes(40) + whole[end:])


def encoded_grey(level: int) -> bytes:
    image = np.full((8, 8), level, np.uint8)
    image[0] = np.arange(8) * level % 256
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def test_other_bytes_before_the_end_are_damage() -> None:
    """They may be image data that the decoder could not use, since it went wrong before."""
    with pytest.raises(ImageError, match="damaged"):
        image_file.decode(before(END, b"abcdefghi"))


@pytest.mark.parametrize("version", [b"\0\0", b"\1\0", b"\1\3", b"\2\1"])
def test_every_version_of_jfif_is_read(version: bytes) -> None:
    file = PLAIN.replace(b"JFIF\0\1\1", b"JFIF\0" + version)
    assert np.array_equal(image_file.decode(file), image_file.decode(PLAIN))


def adobe(transform: int) -> bytes:
    return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def with_scan_of(*values: int) -> bytes:
    """The plain file with other bytes for its scan's spectral selection and approximation."""
    end = scan(PLAIN)
    return PLAIN[: end - 3] + bytes(values) + PLAIN[end:]


@pytest.mark.parametrize(
    "file",
    [
        *(with_scan_of(*values) for values in ((0, 0, 0), (0, 63, 1), (1, 63, 0), (0, 0, 255))),
        *(PLAIN[:2] + adobe(transform) + PLAIN[20:] for transform in (1, 2, 3, 255)),
        *(PLAIN[:20] + adobe(transform) + PLAIN[20:] for transform in (0, 1, 2, 3)),
        *(before(TABLE, b"\xff\xe2\0\x14ICC_PROFILE\0" + place) for place in (b"\2\2abcd", b"\0\0abcd")),
        before(TABLE, b"\xff\xe2\0\x08ICC_PROFILE\0"[:10]),
        before(TABLE, b"\xff\xe2\0\x0eICC_PROFILE\0"),
        PLAIN[:2] + b"\xff\xe0\0\x08JFIF\0\1" + PLAIN[20:],
    ],
)
def test_what_a_segment_says_oddly_changes_no_pixel(file: bytes) -> None:
    """libjpeg warns of these and decodes them alike."""
    assert np.array_equal(image_file.decode(file), image_file.decode(PLAIN))


@pytest.mark.parametrize("transform", [3, 9])
def test_an_unknown_code_of_adobe_with_four_components_is_taken_as_decoders_do(transform: int) -> None:
    out = io.BytesIO()
    PIL.Image.fromarray(np.zeros((40, 56, 4), np.uint8), "CMYK").save(out, "JPEG", quality=95)
    file = out.getvalue()
    at = file.index(b"Adobe") + 11
    assert np.array_equal(
        image_file.decode(file[:at] + bytes([transform]) + file[at + 1 :]),
        image_file.decode(file[:at] + b"\2" + file[at + 1 :]),
    )


def test_a_file_that_begins_twice_is_called_damaged() -> None:
    for file in (PLAIN[:2] + PLAIN, PLAIN[:20] + PLAIN):
        with pytest.raises(ImageError, match=r"damaged \(it begins twice\)"):
            image_file.decode(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file[:2] + file[20:],  # no JFIF segment
        lambda file: file[:20] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1" + file[20:],
        lambda file: file + b"what a phone appends" * 100,
        lambda file: file + file,
        lambda file: file + bytes(1000),
    ],
)
def test_more_and_less_than_the_plain_file_is_read(change: Callable[[bytes], bytes]) -> None:
    assert np.array_equal(image_file.decode(change(PLAIN)), image_file.decode(PLAIN))


def test_a_motion_jpeg_without_its_tables_is_read() -> None:
    """Cameras leave out the code tables of the standard's annex K, which every decoder knows."""
    file = PLAIN
    while (at := file.find(CODES)) >= 0:
        file = file[:at] + file[at + 2 + int.from_bytes(file[at + 2 : at + 4], "big") :]
    assert np.array_equal(image_file.decode(file), image_file.decode(PLAIN))


@pytest.mark.parametrize("quality", [40, 92, 100])
@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("restart", [0, 3])
@pytest.mark.parametrize(
    "sampling",
    [
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ],
)
def test_every_way_to_write_a_jpeg_gives_the_pixels_of_another_decoder(
    quality: int, progressive: int, restart: int, sampling: int
) -> None:
    """Recipes keep their verdicts only while pixels stay the same to the last bit."""
    settings = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive),
        *(cv2.IMWRITE_JPEG_RST_INTERVAL, restart, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling),
    ]
    for image in (textured(), textured(61, 83), textured()[:, :, 0]):
        file = cv2.imencode(".jpg", image, settings)[1].tobytes()
        assert np.array_equal(image_file.decode(file), other_decoder(file))


@pytest.mark.parametrize("level", [0, 200, 255])
@pytest.mark.parametrize("optimised", [False, True])
def test_an_even_background_of_a_progressive_jpeg_may_be_zeros(level: int, optimised: bool) -> None:
    """Its scans hold one bit a block, so that a bright background is a long run of zeros in the file."""
    image = np.full((1200, 1600, 3), level, np.uint8)
    image[500:628, 700:828] = textured()
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "JPEG", progressive=True, optimize=optimised)
    assert np.array_equal(image_file.decode(out.getvalue()), other_decoder(out.getvalue()))


def test_cmyk_gives_the_pixels_of_another_decoder() -> None:
    ink = np.random.default_rng(1).integers(0, 256, (40, 56, 4), np.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(ink, "CMYK").save(out, "JPEG", quality=95)
    assert np.array_equal(image_file.decode(out.getvalue()), other_decoder(out.getvalue()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_image_is_turned_as_exif_says(orientation: int) -> None:
    body = b"Exif\0\0" + exif(orientation)
    file = PLAIN[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + PLAIN[2:]
    assert np.array_equal(image_file.decode(file), turned(image_file.decode(PLAIN), orientation))


@pytest.mark.parametrize("body", [b"", b"II*\0", b"nonsense", exif(9), exif(0), exif(6)[:12]])
def test_odd_exif_says_nothing_of_the_pixels(body: bytes) -> None:
    body = b"Exif\0\0" + body
    file = PLAIN[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + PLAIN[2:]
    assert np.array_equal(image_file.decode(file), image_file.decode(PLAIN))


def test_every_cut_shows() -> None:
    for file in (PLAIN, encoded("JPEG", progressive=True), encoded("JPEG", restart_marker_blocks=4)):
        for length in (*range(2, 30), *range(30, len(file) - 1, 97), len(file) - 2, len(file) - 1):
            with pytest.raises(ImageError, match=r"cut short|damaged"):
                image_file.decode(file[:length])


@pytest.mark.parametrize("place", [0.1, 0.5, 0.95])
def test_zeros_in_the_place_of_the_last_image_data_are_damage(place: float) -> None:
    """They reach to the end like padding, but more of them than the decoder has no use for."""
    at = scan(PLAIN) + int(place * (len(PLAIN) - scan(PLAIN)))
    with pytest.raises(ImageError, match="damaged"):
        image_file.decode(PLAIN[:at] + bytes(len(PLAIN) - 2 - at) + END)


@pytest.mark.parametrize(
    ("marker", "words"),
    [(0xC3, "lossless"), (0xC5, "hierarchical"), (0xC7, "hierarchical"), (0xF7, "JPEG-LS")],
)
def test_a_kind_that_is_not_read_is_named_with_the_fix(marker: int, words: str) -> None:
    file = PLAIN.replace(FRAME, bytes([0xFF, marker]), 1)
    with pytest.raises(ImageError, match=f"{words}.*save it as"):
        image_file.decode(file)


def test_unusual_subsampling_and_depth_are_named_with_the_fix() -> None:
    at = PLAIN.index(FRAME) + 4
    twelve = PLAIN[:at] + b"\x0c" + PLAIN[at + 1 :]
    with pytest.raises(ImageError, match="8 bits a channel: save it as PNG"):
        image_file.decode(twelve)
    factor = at + 7
    unusual = PLAIN[:factor] + b"\x31" + PLAIN[factor + 1 :]
    progressive = unusual.replace(FRAME, b"\xff\xc2", 1)
    with pytest.raises(ImageError, match="subsampling is unusual: save it with"):
        image_file.decode(progressive)


@pytest.mark.parametrize(("rows", "columns"), [(0, 128), (128, 0), (65500, 65500)])
def test_a_size_that_no_image_has_is_refused(rows: int, columns: int) -> None:
    at = PLAIN.index(FRAME) + 5
    with pytest.raises(ImageError, match=f"{columns}x{rows} pixels"):
        image_file.decode(PLAIN[:at] + struct.pack(">HH", rows, columns) + PLAIN[at + 4 :])
