"""The masks of a data set, which show where a defect is, at the network's size.

This module knows nothing of scores, recipes or where the files lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.evaluation.auroc_pro import Mask
from monitor.images.preprocessing import Size

PackedMask = NDArray[np.uint8]
"""A mask at the network's size, one bit a pixel, to save memory."""
_SAME_SHAPE = 0.02
"""The largest relative difference between a mask's and its image's aspect ratio; rounding causes one when
both were resized."""


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask of ground_truth/."""

    packed: PackedMask
    shape: tuple[int, int]
    """The rows and columns of its file."""
    shown_name: str


def read_mask(image: Image, size: Size, shown_name: str) -> MaskFile:
    """The mask of a decoded file."""
    return MaskFile(np.packbits(resize_mask(image, size)), (image.shape[0], image.shape[1]), shown_name)


def resize_mask(drawn: Image, size: Size) -> Mask:
    """A mask's file, (H, W[, 3]) and 0 where there is no defect, at the network's size.

    It is resized bilinearly, and every pixel above 0 is defective, as in the official code. Bilinear sampling
    can miss a small defect completely; such a mask is resized by averaging.
    """
    flat = drawn if drawn.ndim == 2 else drawn.max(axis=2)
    resized = cv2.resize(flat, size[::-1], interpolation=cv2.INTER_LINEAR)
    if not resized.any():
        # As float32: the mean of a few white pixels among black ones rounds to 0 in uint8.
        resized = cv2.resize(flat.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(resized > 0)


def empty_mask(size: Size) -> PackedMask:
    """The mask of a good image."""
    return np.packbits(np.zeros(size, np.bool_))


def find_mask(
    name: PurePosixPath,
    masks: Mapping[PurePosixPath, MaskFile],
    *,
    image_shape: tuple[int, int],
    image_name: str,
    say: Callable[[str], None],
) -> PackedMask | None:
    """The mask of the defective image at `name` below test/; None where there is no usable one.

    `masks` are by their path below ground_truth/ without the suffix. `say` gets one line about a mask that is
    missing or unusable; `image_name` is the image's name in that line.
    """
    stem = name.with_suffix("")
    mask = masks.get(stem.with_name(f"{stem.name}_mask")) or masks.get(stem)
    if mask is None:
        say(f"no mask: {image_name}: left out of pixel_auroc and pro")
        return None
    (rows, columns), (image_rows, image_columns) = mask.shape, image_shape
    if abs(rows * image_columns / (columns * image_rows) - 1) > _SAME_SHAPE:
        say(
            f"mask of another shape: {mask.shown_name}: {columns}x{rows}, its image "
            f"{image_columns}x{image_rows}: left out of pixel_auroc and pro"
        )
        return None
    if not mask.packed.any():
        say(f"empty mask: {mask.shown_name}: left out of pixel_auroc and pro")
        return None
    return mask.packed
