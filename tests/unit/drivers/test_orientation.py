"""An image is turned by what TIFF 6.0 says of where its first row and column lie."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.orientation import read_exif, upright
from tests.real.image_bytes import exif, turned


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_every_orientation_is_turned_upright(orientation: int, shape: tuple[int, ...]) -> None:
    stored = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert np.array_equal(upright(stored, orientation), turned(stored, orientation))


@pytest.mark.parametrize("orientation", [None, 0, 9, 255, "6", b"", (6, 6)])
def test_any_other_value_changes_nothing(orientation: object) -> None:
    stored = np.arange(15, dtype=np.uint8).reshape(3, 5)
    assert np.array_equal(upright(stored, orientation), stored)


def test_exif_is_read_with_and_without_its_prefix() -> None:
    assert read_exif(exif(6)) == 6
    assert read_exif(b"Exif\0\0" + exif(3)) == 3
    for odd in (b"", b"Exif\0\0", b"MM", b"II*\0\xff\xff\xff\xff", exif(6)[:11]):
        assert read_exif(odd) is None
