"""A JPEG with unusual subsampling is read with the pixels of another decoder; a damaged one is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drivers import image_file, jpeg_sampling
from drivers.image_file import ImageError
from tests.real.image_bytes import scan
from tests.real.jpeg_bytes import FACTORS, subsampled

Factors = tuple[int, int, int]
END = b"\xff\xd9"


@pytest.fixture(params=FACTORS)
def file(request: pytest.FixtureRequest) -> bytes:
    return subsampled(request.param)


def other_decoder(file: bytes) -> image_file.Image:
    return np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_ANYCOLOR))


def test_its_pixels_are_those_of_another_decoder(file: bytes) -> None:
    read = image_file.decode(file)
    assert read.shape == (21, 37, 3)
    assert np.array_equal(read, other_decoder(file))


@pytest.mark.parametrize("added", [b"\xff\xff", b"\xff\xfe\0\4ab", bytes(2), bytes(3)])
def test_what_may_stand_before_the_end_changes_no_pixel(file: bytes, added: bytes) -> None:
    assert np.array_equal(image_file.decode(file[:-2] + added + END), image_file.decode(file))


@pytest.mark.parametrize("behind", [bytes(1000), b"what a phone appends" * 100, b"\xff\xd8\xff\xd9"])
def test_what_stands_behind_the_end_changes_no_pixel(file: bytes, behind: bytes) -> None:
    assert np.array_equal(image_file.decode(file + behind), image_file.decode(file))


def test_every_cut_shows(file: bytes) -> None:
    for length in (*range(scan(file) - 20, len(file) - 1, 9), len(file) - 2, len(file) - 1):
        with pytest.raises(ImageError, match=r"cut short|damaged"):
            image_file.decode(file[:length])
        with pytest.raises(ImageError, match=r"cut short|damaged"):
            image_file.decode(file[: min(length, len(file) - 6)] + END)


def test_image_data_that_ends_too_early_or_too_late_shows(file: bytes) -> None:
    half = scan(file) + (len(file) - scan(file)) // 2
    for broken in (
        file[:half] + END,
        file[:half] + bytes(len(file) - 2 - half) + END,
        file[:-2] + b"abcdefghijklmnopq" + END,
        file[:-2] + file[scan(file) :],
    ):
        with pytest.raises(ImageError, match="damaged"):
            image_file.decode(broken)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_an_even_image_may_end_with_zeros(level: int) -> None:
    """The image data of an even block is a few bits, which may all be zeros."""
    plain = np.full((64, 96, 3), level, np.uint8)
    file = cv2.imencode(".jpg", plain, [cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].tobytes()
    at = scan(file)
    assert np.array_equal(jpeg_sampling.decode(file[:at], file[at:-2]), other_decoder(file))


def test_several_scans_or_restart_markers_are_refused_since_damage_would_not_show(file: bytes) -> None:
    at = file.index(b"\xff\xda")
    restarts = file[:at] + b"\xff\xdd\0\4\0\1" + file[at:]
    progressive = file.replace(b"\xff\xc0", b"\xff\xc2", 1)
    for one in (restarts, progressive):
        with pytest.raises(ImageError, match="subsampling is unusual: save it with"):
            image_file.decode(one)
