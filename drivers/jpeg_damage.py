"""What a JPEG's bytes tell of damage that its decoder passes over, filling the image up with what never was.

Decodes nothing. A JPEG has no checksums: most flipped bits give another image that is as well-formed.
"""

from __future__ import annotations

START = b"\xff\xd8"
_END = b"\xff\xd9"
_SCAN, _TABLES = 0xDA, 0xC4
_BLOCK_END = 0
"""The symbol for "no more coefficients in this block"."""
_ZEROS = bytes(64)
"""Enough that a whole block of brightness lies within them, whatever the colours beside it."""


def damage(content: bytes) -> str | None:
    """What is wrong with a JPEG as far as its bytes tell; None when nothing is seen."""
    scan, shortest = _before_the_scan(content)
    end = content.find(_END, scan)
    if end < 0:
        return "the file is cut short"
    # As a disk or a camera's memory leaves what it lost. Zeros are well-formed: where the code of zeros ends
    # a block they are an even area, else 63 equal coefficients in a block, which no image has.
    if any(symbol != _BLOCK_END for symbol in shortest) and content.find(_ZEROS, scan, end) >= 0:
        return "the file is damaged (zeros in the place of image data)"
    return None


def _before_the_scan(content: bytes) -> tuple[int, list[int]]:
    """Where the first scan begins, and what each table for its coefficients has for the code of zeros.

    A preview inside a segment has an end of its own: the segments are stepped over.
    """
    place, shortest = len(START), list[int]()
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != bytes([_SCAN]):
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if content[place + 1] == _TABLES:
            shortest += _shortest(content[place + 4 : place + 2 + length])
        place += 2 + length
    return place, shortest


def _shortest(tables: bytes) -> list[int]:
    """The first symbol of each Huffman table for coefficients in a segment: its code is all zeros."""
    found = []
    while len(tables) > 17:
        if tables[0] >> 4:
            found.append(tables[17])
        tables = tables[17 + sum(tables[1:17]) :]
    return found
