"""The one way from an image to the network's input.

Training, calibration, scoring of files and the running line all go through `prepare`; a second path would be
a second inspection. Nothing here may depend on what is in the image: no stretching, no equalising.
"""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image

COLOUR_ORDER = "RGB"
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
HALVED_FROM = 2
RESIZE = f"squash-area, halved from {HALVED_FROM} times"
"""Squashed to the recipe's size as in the paper. Shrinking averages every pixel that falls into the new one:
a bilinear sample would skip most pixels of a large frame, so that noise, and a defect of few pixels, come and
go with a shift by one. Images of HALVED_FROM times the size and more are halved first, which is vectorised:
1920x1080 to 256 takes 1.0 ms instead of 4.5. Growing is bilinear."""
TILED_RESIZE = f"{RESIZE}, tiled"
"""And then cut into tiles (`monitor.images.tiling`)."""

SCALE = (1 / (255 * np.array(DEVIATION))).astype(np.float32)
SHIFT = (-np.array(MEAN) / np.array(DEVIATION)).astype(np.float32)
"""A grey level times the first plus the second is what the network gets, by channel (RGB)."""

Size = tuple[int, int]
"""Rows and columns."""


class Pictures(Protocol):
    """Images by index, as the network sees them: uint8 (H, W, 3) or (H, W), all of one height and width."""

    def __getitem__(self, index: int, /) -> Image: ...


def as_size(size: int | Size) -> Size:
    """A square's for one number."""
    return (size, size) if isinstance(size, int) else size


def prepare(image: Image, size: Size) -> NDArray[np.float32]:
    """An image as the network's input: float32 (3, *size), RGB, ImageNet-normalised.

    `image` is uint8 (H, W, 3) BGR or (H, W) mono, which becomes three equal channels. Raises ValueError for
    any other array.
    """
    return normalised(squashed(image, size))


def require(image: Image) -> None:
    """Raises ValueError for an array that is no image."""
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or not image.size
        or image.shape[2:] not in ((), (3,))
    ):
        raise ValueError(f"an image is uint8 (H, W, 3) or (H, W), not {image.dtype} {tuple(image.shape)}")


def squashed(image: Image, size: Size) -> Image:
    """`prepare`'s first half: the image at `size`, still uint8, BGR or mono; maybe `image` itself."""
    require(image)
    (rows, columns), (height, width) = image.shape[:2], size
    small: Any = image
    least = HALVED_FROM * height, HALVED_FROM * width
    while rows >= least[0] and columns >= least[1] and rows % 2 == 0 and columns % 2 == 0:
        rows, columns = rows // 2, columns // 2
        small = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_AREA)
    # Each axis by its own rule, because OpenCV averages only where both shrink.
    if rows > height or columns > width:
        small = cv2.resize(small, (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    if rows < height or columns < width:
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(small, np.uint8)


def normalised(image: Image) -> NDArray[np.float32]:
    """`prepare`'s second half: float32 (3, H, W), RGB, ImageNet-normalised."""
    prepared = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        plane = image if image.ndim == 2 else image[:, :, 2 - channel]
        np.multiply(plane, SCALE[channel], out=prepared[channel], casting="unsafe")
        prepared[channel] += SHIFT[channel]
    return prepared
