"""A JPEG whose scans do not hold its whole image is refused; where its height stands changes no pixel."""

from __future__ import annotations

import re
import struct

import cv2
import numpy as np
import pytest

from drivers import image_file
from drivers.image_file import ImageError
from tests.real.image_bytes import encoded, textured
from tests.real.jpeg_bytes import arithmetic, one_scan_each

END = b"\xff\xd9"
HEADER, SCANS = one_scan_each(np.ascontiguousarray(np.moveaxis(textured(48, 64), 2, 0)))


def other_decoder(file: bytes) -> image_file.Image:
    return np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_ANYCOLOR))


def test_a_scan_for_each_component_is_read_in_any_order() -> None:
    whole = HEADER + b"".join(SCANS) + END
    assert np.array_equal(image_file.decode(whole), other_decoder(whole))
    assert len(np.unique(image_file.decode(whole)[:, :, 2])) > 100
    turned = HEADER + b"".join(SCANS[::-1]) + END
    assert np.array_equal(image_file.decode(turned), other_decoder(whole))


@pytest.mark.parametrize("kept", [(0,), (0, 1), (1, 2), (0, 2), (0, 0, 1)])
def test_a_component_without_a_scan_is_missed(kept: tuple[int, ...]) -> None:
    """libjpeg would leave its colour out without a word."""
    file = HEADER + b"".join(SCANS[number] for number in kept) + END
    assert other_decoder(file).shape == (48, 64, 3)
    with pytest.raises(ImageError, match="cut short"):
        image_file.decode(file)


def test_a_progressive_file_without_its_last_scans_is_missed() -> None:
    file = encoded("JPEG", progressive=True)
    starts = [found.start() for found in re.finditer(rb"\xff\xda", file)]
    assert len(starts) == 10
    for start in starts[1:]:
        cut = file[:start] + END
        assert other_decoder(cut).shape == (128, 128, 3)
        with pytest.raises(ImageError, match="cut short"):
            image_file.decode(cut)


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_arithmetic_coded_data_that_is_cut_short_is_missed(share: float) -> None:
    """Its decoder takes the missing data for zeros."""
    file = arithmetic()
    assert np.array_equal(image_file.decode(file), other_decoder(file))
    start = file.index(b"\xff\xda") + 10
    cut = file[: start + int(share * (len(file) - start))] + END
    assert other_decoder(cut).shape == (48, 48)
    with pytest.raises(ImageError, match=r"cut short|damaged"):
        image_file.decode(cut)


@pytest.mark.parametrize(
    "settings", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]]
)
def test_the_height_may_stand_behind_the_first_scan(settings: list[int]) -> None:
    """The standard allows a height of 0 in the frame and a DNL segment behind the first scan."""
    file = cv2.imencode(".jpg", textured(61, 83), settings)[1].tobytes()
    at = re.search(rb"\xff[\xc0\xc2]\0\x11", file).start() + 5  # type: ignore[union-attr]
    first = re.search(rb"\xff\xda", file).end()  # type: ignore[union-attr]
    end = re.search(rb"\xff[^\0\xd0-\xd7]", file[first:]).start() + first  # type: ignore[union-attr]
    without = file[:at] + b"\0\0" + file[at + 2 :]
    lines = struct.pack(">HHH", 0xFFDC, 4, 61)
    assert np.array_equal(image_file.decode(without[:end] + lines + without[end:]), image_file.decode(file))
    for wrong in (lines[:5], struct.pack(">HHH", 0xFFDC, 4, 0), struct.pack(">HHH", 0xFFDC, 4, 300)):
        with pytest.raises(ImageError, match=r"damaged|cut short"):
            image_file.decode(without[:end] + wrong + without[end:])
