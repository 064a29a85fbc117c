"""The one way from an image to the network's input: resize, then normalise.

Training, calibration, the scoring of files and the running line all use it, so that a recipe scores images
that are prepared as its training images were. Scoring on a CUDA device is the exception: it has a resizing of
its own, which is used only where it agrees with this one (`monitor.inference.device_scoring`). Nothing here
may depend on an image's content: no stretching of contrast, no histogram equalisation. This module knows
nothing of recipes, cameras or files.
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
"""Means and standard deviations of ImageNet's images, by channel (RGB), for grey levels from 0 to 1."""

HALVED_FROM = 2
"""An image is halved, again and again, as long as its height and width are both even and both at least this
many times the target's. OpenCV halves with vector instructions: from 1920x1080 to 256x256, resizing takes
1.0 ms instead of 4.5."""
RESIZE = f"squash-area, halved from {HALVED_FROM} times"
"""The name of the resizing below, as recipes record it.

As in the paper, an image is resized to the recipe's size without keeping its aspect ratio. A smaller image is
made by averaging all pixels that fall into each new one; a larger one is interpolated bilinearly. Bilinear
sampling would skip most pixels of a large frame, so that a defect of few pixels could vanish when the part
moves by one pixel."""
TILED_RESIZE = f"{RESIZE}, tiled"
"""The same, then cut into tiles (`monitor.images.tiling`)."""

SCALE = (1 / (255 * np.array(DEVIATION))).astype(np.float32)
SHIFT = (-np.array(MEAN) / np.array(DEVIATION)).astype(np.float32)
"""The network's input is grey level * SCALE + SHIFT, by channel (RGB)."""

Size = tuple[int, int]
"""Rows and columns."""


class IndexedImages(Protocol):
    """Resized images by index: uint8 (H, W, 3) or (H, W), all of one height and width."""

    def __getitem__(self, index: int, /) -> Image: ...


def as_size(size: int | Size) -> Size:
    """Rows and columns; one number stands for a square's side."""
    return (size, size) if isinstance(size, int) else size


def prepare(image: Image, size: Size) -> NDArray[np.float32]:
    """An image as the network's input: float32 (3, *size), RGB, normalised with `MEAN` and `DEVIATION`.

    `image` is uint8 (H, W, 3) BGR or (H, W) mono, which becomes three equal channels. Raises ValueError for
    any other array.
    """
    return normalise_image(resize_image(image, size))


def check_image(image: Image) -> None:
    """Raises ValueError for an array that is not an image."""
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or not image.size
        or image.shape[2:] not in ((), (3,))
    ):
        raise ValueError(f"an image is uint8 (H, W, 3) or (H, W), not {image.dtype} {tuple(image.shape)}")


def resize_image(image: Image, size: Size) -> Image:
    """The first half of `prepare`: the image at `size`, uint8, BGR or mono. It may be `image` itself.

    Raises ValueError for an array that is not an image.
    """
    check_image(image)
    (rows, columns), (height, width) = image.shape[:2], size
    resized: Any = image
    least = HALVED_FROM * height, HALVED_FROM * width
    while rows >= least[0] and columns >= least[1] and rows % 2 == 0 and columns % 2 == 0:
        rows, columns = rows // 2, columns // 2
        resized = cv2.resize(resized, (columns, rows), interpolation=cv2.INTER_AREA)
    # First the axes that get smaller, then those that get larger: OpenCV averages only if neither axis gets
    # larger.
    if rows > height or columns > width:
        resized = cv2.resize(resized, (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    if rows < height or columns < width:
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def normalise_image(image: Image) -> NDArray[np.float32]:
    """The second half of `prepare`: float32 (3, H, W), RGB, normalised."""
    prepared = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        plane = image if image.ndim == 2 else image[:, :, 2 - channel]
        np.multiply(plane, SCALE[channel], out=prepared[channel], casting="unsafe")
        prepared[channel] += SHIFT[channel]
    return prepared
