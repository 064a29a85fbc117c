"""The masks of a data set, which show where a defect is, at the network's size.

A mask has two values, 0 where there is no defect, or grey edges between two. What else it has is refused by
name. This module knows nothing of scores, recipes or where the files lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image, ImageError, decode_any_depth
from monitor.evaluation.auroc_pro import Mask
from monitor.images.preprocessing import Size

PackedMask = NDArray[np.uint8]
"""A mask at the network's size, one bit a pixel, to save memory."""
_SAME_SHAPE = 0.02
"""The largest relative difference between a mask's and its image's aspect ratio; rounding causes one when
both were resized."""
_FEW = 4
"""A mask with more values than these has grey edges, as resizing makes them."""
_NOISE = 1 / 16
"""The largest relative difference from 0 or from the defect's value that compression makes."""
_STRONG_NOISE = 1 / 8
"""The same for a mask of more than `_FEW` values. Edges have values further from both; without such values a
mask has noise and no edges."""
_MOST_NAMED = 3
"""The most masks of one problem that get a line each."""
_LEFT_OUT = "left out of pixel_auroc and pro"
_AS = "as black, and white where the defect is"
_SAVE = f"save it {_AS}"


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask of ground_truth/."""

    packed: PackedMask
    shape: tuple[int, int]
    """The rows and columns of its file."""
    shown_name: str


def read_mask(content: bytes, size: Size, shown_name: str) -> MaskFile:
    """The mask of a file's bytes. Raises ImageError when it does not show clearly where the defect is."""
    drawn = find_defect(_decode(content))
    _check_transparency(content, drawn)
    return MaskFile(np.packbits(resize_mask(drawn, size)), (drawn.shape[0], drawn.shape[1]), shown_name)


def _decode(content: bytes) -> NDArray[Any]:
    """The values of the file: (H, W) or (H, W, 3), of 8 or 16 bits. Raises ImageError."""
    image = decode_any_depth(content)
    if image.ndim == 3 and content[24:25] == b"\x10" and content[:4] == b"\x89PNG":
        # The decoder keeps only the upper 8 of 16 bits of colour; a mask may have the value 1.
        wide = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        return image if wide is None else wide[:, :, :3]
    return image


def find_defect(image: NDArray[Any]) -> Image:
    """The mask as (H, W), 0 where there is no defect and 255 where there is one, with the grey edges that it
    has. `image` is (H, W) or (H, W, 3), of 8 or 16 bits. Raises ImageError."""
    if image.ndim == 3 and not (image == image[:, :, :1]).all():
        wide = image.astype(np.uint64)
        # Each colour is one value.
        codes: NDArray[Any] = wide[:, :, 0] | wide[:, :, 1] << np.uint64(16) | wide[:, :, 2] << np.uint64(32)
        is_grey = False
    else:
        codes, is_grey = (image if image.ndim == 2 else image[:, :, 0]), True
    values, counts = np.unique(codes, return_counts=True)
    if values[-1] == 0 or len(values) == 1:
        return np.full(codes.shape, 255 if values[-1] else 0, np.uint8)
    if values[0] != 0:
        raise ImageError(
            f"none of its {len(values)} values is 0, so it is not known where the defect is; {_SAVE}"
        )
    if len(values) == 2:
        return np.where(codes == 0, 0, 255).astype(np.uint8)
    defect = values[1 + int(counts[1:].argmax())]
    if not is_grey or _has_third_value(codes, values, defect):
        raise ImageError(f"it has {len(values)} values, so it is not known which are defects; {_SAVE}")
    codes = _without_noise(codes, values, float(defect))
    top = int(values[-1])
    # Rounded up: a pixel above 0 stays above 0.
    return ((codes.astype(np.uint32) * 255 + top - 1) // top).astype(np.uint8)


def _without_noise(codes: NDArray[Any], values: NDArray[Any], defect: float) -> NDArray[Any]:
    """The mask with 0 in place of the values that compression made of 0. A mask with grey edges keeps them,
    down to the lowest."""
    limit = _NOISE
    if len(values) > _FEW:
        limit = _STRONG_NOISE
        if ((values > defect * limit) & (values < defect * (1 - limit))).any():
            return codes
    return np.where(codes <= defect * limit, 0, codes)


def _has_third_value(codes: NDArray[Any], values: NDArray[Any], defect: Any) -> bool:
    """Whether a value other than 0 and the defect's is more than an edge between the two."""
    if len(values) <= _FEW:
        distance = np.minimum(values / float(defect), np.abs(values / float(defect) - 1))
        if (distance > _NOISE).any():
            return True
    # Along an edge the value changes from pixel to pixel; an area of 3x3 equal pixels is none.
    middle = codes[1:-1, 1:-1]
    flat = (middle != 0) & (middle != defect)
    rows, columns = middle.shape
    for row in range(3):
        for column in range(3):
            flat &= codes[row : row + rows, column : column + columns] == middle
    return bool(flat.any())


def _check_transparency(content: bytes, drawn: Image) -> None:
    """Raises ImageError when a file's transparency marks another place than its colours."""
    if content[:4] == b"\x89PNG":
        has_alpha = content[25:26] in (b"\x04", b"\x06") or b"tRNS" in content
    else:
        # The decoders drop an alpha channel without saying so. JPEG has none.
        has_alpha = not content.startswith(b"\xff\xd8")
    if not has_alpha:
        return
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] not in (2, 4):
        return
    alpha = image[:, :, -1]
    if alpha.shape != drawn.shape:
        raise ImageError("it is stored turned; save it upright, without transparency")
    is_clear = alpha < (65_535 if alpha.dtype == np.uint16 else 255)
    if not drawn.any() and alpha.min() != alpha.max():
        raise ImageError(f"its transparency alone shows something; save it without transparency, {_AS}")
    if is_clear.any() and (alpha[is_clear].any() or drawn[is_clear].any()):
        raise ImageError(
            "its transparency and its colours mark different places; save it without transparency"
        )


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


@dataclass(slots=True)
class MaskSearch:
    """The search for the masks of one category's defective images, and what is to be said about it.

    `masks` are by their path below ground_truth/ without the suffix.
    """

    masks: Mapping[PurePosixPath, MaskFile]
    _searched: int = 0
    _missing: list[str] = field(default_factory=list)
    _unusable: dict[str, list[str]] = field(default_factory=dict)
    _found: set[PurePosixPath] = field(default_factory=set)

    def find(self, name: PurePosixPath, image_shape: tuple[int, int], image_name: str) -> PackedMask | None:
        """The mask of the defective image at `name` below test/; None where there is no usable one.
        `image_name` is the image's name for the user."""
        self._searched += 1
        stem = name.with_suffix("")
        place = next((one for one in (stem.with_name(f"{stem.name}_mask"), stem) if one in self.masks), None)
        if place is None:
            self._missing.append(image_name)
            return None
        self._found.add(place)
        mask = self.masks[place]
        (rows, columns), (image_rows, image_columns) = mask.shape, image_shape
        if abs(rows * image_columns / (columns * image_rows) - 1) > _SAME_SHAPE:
            line = f"{mask.shown_name}: {columns}x{rows}, its image {image_columns}x{image_rows}"
            self._unusable.setdefault("mask of another shape", []).append(line)
            return None
        if not mask.packed.any():
            self._unusable.setdefault("empty mask", []).append(mask.shown_name)
            return None
        return mask.packed

    def remarks(self) -> Iterator[str]:
        """Lines for the user: once how many masks are missing, and the masks that are no use."""
        for problem, lines in self._unusable.items():
            for line in lines[:_MOST_NAMED]:
                yield f"{problem}: {line}: {_LEFT_OUT}"
            if len(lines) > _MOST_NAMED:
                yield f"{problem}: {len(lines) - _MOST_NAMED} more: {_LEFT_OUT}"
        if not self._missing:
            return
        if not self.masks:
            yield "no masks in ground_truth: pixel_auroc and pro are not known"
            return
        strays = [mask.shown_name for place, mask in self.masks.items() if place not in self._found]
        hint = ""
        if strays:
            hint = (
                f"; {len(strays)} masks belong to no image, the first is {strays[0]}: name each as its "
                "image, with _mask or without"
            )
        yield (
            f"no mask: {len(self._missing)} of {self._searched} images with a defect, the first is "
            f"{self._missing[0]}: {_LEFT_OUT}{hint}"
        )
