"""Turns an image as its EXIF or TIFF orientation says. It knows nothing of formats of files."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

TAG = 0x0112
"""The orientation's tag in EXIF and in TIFF."""

warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)

_TRANSPOSED = (5, 6, 7, 8)
_FLIPPED_LEFT_RIGHT = (2, 3, 6, 7)
_FLIPPED_TOP_BOTTOM = (3, 4, 7, 8)


def upright(image: NDArray[Any], orientation: object) -> NDArray[Any]:
    """The image as a person should see it. A value that is not 2 to 8 changes nothing."""
    if orientation in _TRANSPOSED:
        image = np.swapaxes(image, 0, 1)
    if orientation in _FLIPPED_LEFT_RIGHT:
        image = image[:, ::-1]
    if orientation in _FLIPPED_TOP_BOTTOM:
        image = image[::-1]
    return image


def read_exif(exif: bytes) -> object:
    """The orientation in EXIF data; None where there is none or it can't be read."""
    if not exif:
        return None
    found = PIL.Image.Exif()
    try:
        found.load(exif)
        return found.get(TAG)
    except Exception:  # noqa: BLE001 - Pillow raises many types for odd EXIF, which says nothing of the pixels
        return None
