"""Finds whether the scans of a JPEG hold its whole image, and its height where that stands behind a scan.

It decodes nothing itself. libjpeg does not complain of a missing scan: the image has no colour or no details.
It does not complain of arithmetic-coded data that is cut short: encoders leave out the zeros at its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from drivers.image_limits import ImageError

SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
PROGRESSIVE = frozenset({0xC2, 0xCA})
ARITHMETIC = frozenset({0xC9, 0xCA})
"""The markers that begin such a frame."""
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
"""The markers that stand alone: no length and no data follow."""

_BEGIN_SCAN, _END, _LINES = 0xDA, 0xD9, 0xDC
_MARKER = re.compile(rb"\xff+[^\0\xff\xd0-\xd7]")
"""A marker that ends image data: no zero after 0xFF and no restart marker."""
_COEFFICIENTS = 64
_NOT_NEEDED = tuple(
    np.random.default_rng(seed).integers(0, 255, 1024, np.uint8).tobytes() for seed in range(12)
)
"""Bytes without 0xFF that no decoder of a whole image has a use for."""
_UNUSED = re.compile(r"(\d+) extraneous bytes before marker")
_MOST_READ = 96
"""Of these bytes, how many the decoder may take for the last block, whose zeros at the end are left out."""


def find_height(content: bytes, start: int) -> tuple[int, slice]:
    """The height in the segment behind the first scan's data, which begins at `start`, and that segment's
    place. 0 where there is none (ITU T.81, B.2.5)."""
    found = _MARKER.search(content, start)
    if found is None or content[found.end() - 1] != _LINES:
        return 0, slice(0)
    end = found.end() + 4
    return int.from_bytes(content[end - 2 : end], "big"), slice(found.start(), end)


def check_scans(content: bytes, frame: bytes) -> None:
    """Raises ImageError where a component has no scan or is not sent to its last bit.

    `content` has nothing but segments before its first scan; `frame` is the segment that begins the frame.
    """
    components = frame[10 : 10 + 3 * frame[9] : 3]
    is_progressive = frame[1] in PROGRESSIVE
    # For each component and coefficient, how many bits are still to be sent; sequential scans send all.
    missing = np.full((256, _COEFFICIENTS), 16)
    for body, _, _ in _scans(content):
        count = body[0]
        first, last, bits = body[1 + 2 * count : 4 + 2 * count]
        sent = slice(first, last + 1) if is_progressive else slice(None)
        for component in body[1 : 1 + 2 * count : 2]:
            missing[component, sent] = bits & 15 if is_progressive else 0
    if missing[list(components)].any():
        raise ImageError("the file is cut short (scans are missing)")


def check_arithmetic(content: bytes, find_complaint: Callable[[bytes], str]) -> None:
    """Raises ImageError where the last scan of an arithmetic-coded file is cut short.

    `find_complaint` decodes a file and gives the decoder's complaint. The decoder does not use bytes that are
    added behind whole data, except some for the last block; it uses them all where data is missing. A cut
    whose loss is smaller than that is not found.
    """
    end = max(end for _, _, end in _scans(content))
    for added in _NOT_NEEDED:
        unused = _UNUSED.search(find_complaint(content[:end] + added + content[end:]))
        if unused is not None and int(unused[1]) >= len(added) - _MOST_READ:
            return
    raise ImageError("the file is cut short (its image data ends too early)")


def find_data(content: bytes) -> int:
    """Where the image data of the first scan begins; the end of the file where there is none."""
    return next((start for _, start, _ in _scans(content)), len(content))


def _scans(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The body of the segment that begins each scan, and where its image data begins and ends."""
    place = 2
    while (found := _MARKER.search(content, place)) is not None:
        marker, place = content[found.end() - 1], found.end()
        if marker == _END:
            return
        if marker in WITHOUT_LENGTH:
            continue
        length = int.from_bytes(content[place : place + 2], "big")
        body = content[place + 2 : place + length]
        place += length
        if marker == _BEGIN_SCAN and body and len(body) == 4 + 2 * body[0]:
            end = _MARKER.search(content, place)
            if end is not None:
                yield body, place, end.start()
                place = end.start()
