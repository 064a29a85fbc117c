"""Which images show one part: by their file names where a pattern is given, and by their look.

It knows nothing of files on disk, networks or scores. Images of one part, and near copies of one image, are
not new evidence about good parts: a threshold counts them as one part (`monitor.training.thresholds`), and
the memory of good features leaves them out together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.system.printable import clean_line

THUMBNAIL_SIDE = 64
"""The side in pixels of the grey images by which near copies are found."""
_NEAR_COPY = 1.0
"""The largest difference of near copies: root mean square over a thumbnail, in grey levels of 0 to 255.
Images of different parts differed by at least 3.6 on photographs of paper, 6.2 of magnetic tiles and 9.4 of
screws."""
_NEAR_COPY_SHARE = 0.15
"""Near copies also differ by at most this share of the median difference of all images. Small parts before a
still background, and smooth parts, differ by less than `_NEAR_COPY` without being copies."""
_MOST_COMPARED = 500
"""The median difference is that of this many images at equal distances."""
_ROWS_AT_ONCE = 512
"""Rows of the matrix of differences that are computed together."""

Thumbnail = NDArray[np.float32]


class PartsError(LineMonitorError):
    """The pattern does not say which images show one part. The message is one line with the fix."""


def make_thumbnail(image: Image) -> Thumbnail:
    """The image in grey, averaged by areas to 64x64 pixels. `image` is uint8, (H, W, 3) BGR or (H, W)."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(cv2.resize(grey.astype(np.float32), side, interpolation=cv2.INTER_AREA), np.float32)


def name_below(folder: Path, files: Sequence[Path]) -> list[str]:
    """The names by which `find_parts` finds parts: the paths of the files below their folder, with `/`."""
    return [file.relative_to(folder).as_posix() for file in files]


def find_parts(
    names: Sequence[str], thumbnails: Sequence[Thumbnail], pattern: str | None = None
) -> tuple[int, ...]:
    """By image, the number of the part that it shows, from 0 in order of first appearance.

    `names` are the images' paths below their folder (`name_below`). `pattern` is a regular expression that is
    searched in each name; its first group, or the whole match where it has no group, names the part. Without
    a pattern each image shows a part of its own. Near copies always show one part. Raises PartsError if the
    pattern is not a regular expression or has no match in a name.
    """
    if len(names) != len(thumbnails):
        raise ValueError(f"{len(names)} names for {len(thumbnails)} thumbnails")
    labels = np.arange(len(names))
    if pattern is not None:
        labels = np.unique(find_named_parts(names, pattern), return_inverse=True)[1]
    numbers: dict[int, int] = {}
    joined = _join_near_copies(labels, thumbnails).tolist()
    return tuple(numbers.setdefault(label, len(numbers)) for label in joined)


def explain_parts(parts: Sequence[int]) -> str:
    """One line for a person: how many parts the images show; empty where each shows a part of its own."""
    count = len(set(parts))
    if count == len(parts):
        return ""
    return f"{len(parts)} images show {count} parts: images of one part and near copies count as one part"


def blocks_of(parts: Sequence[int], count: int = 40) -> tuple[int, ...]:
    """By image, the number of the block that is left out with it, from 0. Images are in capture order.

    There are `count` blocks of about as many images each, or one a part where there are fewer parts. A part
    never lies in two blocks. A block is a range of the parts in their order of first appearance, so it is a
    range of images wherever images of one part follow one another.
    """
    sizes = Counter(parts)
    blocks: dict[int, int] = {}
    numbers: dict[int, int] = {}
    before = 0
    for part, size in sizes.items():
        # A part lies in the block of its middle image. Blocks without a part get no number.
        block = int((before + size / 2) * count / len(parts))
        blocks[part] = numbers.setdefault(block, len(numbers))
        before += size
    return tuple(blocks[part] for part in parts)


def _compile(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression. Raises PartsError."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise PartsError(
            f"--part-of {pattern!r} is not a regular expression ({error}): '^[^_]+' takes what a file's name "
            "has before its first underscore"
        ) from None


def find_named_parts(names: Sequence[str], pattern: str) -> list[str]:
    """The text by which each name says its part. Raises PartsError."""
    expression = _compile(pattern)
    found = []
    for name in names:
        match = expression.search(name)
        part = None if match is None else match[1] if expression.groups else match[0]
        if part is None:
            raise PartsError(
                f"{clean_line(name)}: --part-of {pattern!r} has no match in this name: rename the file, "
                "or give a pattern that is in every name"
            )
        found.append(part)
    return found


def _median_difference(rows: NDArray[np.float32]) -> float:
    """The median squared distance of two of the rows (N, D); 0 for a single row."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(_MOST_COMPARED, len(rows))).astype(int)]
    squares = np.einsum("ij,ij->i", chosen, chosen)
    distances = squares[:, None] + squares[None] - 2 * (chosen @ chosen.T)
    pairs = distances[np.triu_indices(len(chosen), 1)]
    return max(0.0, float(np.median(pairs))) if len(pairs) else 0.0


def _join_near_copies(labels: NDArray[np.intp], thumbnails: Sequence[Thumbnail]) -> NDArray[np.intp]:
    """The labels after near copies, and all images of one label, have got one label."""
    if len(labels) == 0:
        return labels
    rows = np.stack([thumbnail.ravel() for thumbnail in thumbnails]).astype(np.float32)
    # The mean image is subtracted because float32 keeps more digits of differences between small numbers.
    rows -= rows.mean(axis=0)
    squares = np.einsum("ij,ij->i", rows, rows)
    limit = min(_NEAR_COPY**2 * rows.shape[1], _NEAR_COPY_SHARE**2 * _median_difference(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        distances = squares[block, None] + squares[None, start:] - 2 * (rows[block] @ rows[start:].T)
        one, other = np.nonzero(distances <= limit)
        ends = labels[one + start], labels[other + start]
        graph = coo_array((np.ones(len(one), bool), ends), shape=(len(rows), len(rows)))
        labels = connected_components(graph, directed=False)[1][labels]
    return labels
