"""Finds damage in a JPEG's bytes that the decoder would fill with invented pixels.

It decodes nothing. A JPEG has no checksums, so most flipped bits give another valid image and can't be found.
"""

from __future__ import annotations

START = b"\xff\xd8"
_END = b"\xff\xd9"
_SCAN, _TABLES = 0xDA, 0xC4
_BLOCK_END = 0
"""The symbol for "no more coefficients in this block"."""
_ZEROS = bytes(64)
"""So many zeros contain a whole block of brightness values, whatever the colour format."""


def damage(content: bytes) -> str | None:
    """The damage that the bytes of a JPEG show, in words; None if they show none."""
    scan, shortest = _before_the_scan(content)
    end = content.find(_END, scan)
    if end < 0:
        return "the file is cut short"
    # Lost data of a disk or a camera's memory is often zeros, and a decoder accepts zeros. If the code of
    # zero bits means "end of block", zeros are an area of one colour, which is possible. Otherwise they are
    # 63 equal coefficients in a block, which no real image has.
    if any(symbol != _BLOCK_END for symbol in shortest) and content.find(_ZEROS, scan, end) >= 0:
        return "the file is damaged (zeros in the place of image data)"
    return None


def _before_the_scan(content: bytes) -> tuple[int, list[int]]:
    """The start of the first scan, and the symbol of the code of zero bits in each table for coefficients.

    Segments are skipped as a whole, because a preview image inside a segment has its own end marker.
    """
    place, shortest = len(START), list[int]()
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != bytes([_SCAN]):
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if content[place + 1] == _TABLES:
            shortest += _shortest(content[place + 4 : place + 2 + length])
        place += 2 + length
    return place, shortest


def _shortest(tables: bytes) -> list[int]:
    """The first symbol of each Huffman table for coefficients in a segment; its code is all zero bits."""
    found = []
    while len(tables) > 17:
        if tables[0] >> 4:
            found.append(tables[17])
        tables = tables[17 + sum(tables[1:17]) :]
    return found
