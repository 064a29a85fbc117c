"""Reads how many colours the palette of a BMP has, and mends what Pillow gets wrong about small palettes.

It decodes no pixel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_FILE_HEADER = 14
_CORE = 12
"""The size of OS/2's header, which has no number of colours."""
_NOT_GREY = b"\1\2\3\0"


@dataclass(frozen=True, slots=True)
class Palette:
    """Where the palette of a BMP lies."""

    bits: int
    """Bits of a pixel."""
    start: int
    entry_bytes: int
    declared: int
    """How many colours the header says it has."""
    colours: int
    """How many stand in the file before the pixels."""


def read_palette(content: bytes) -> Palette | None:
    """The palette of the BMP of these bytes; None where pixels are no indices, or the header is cut short."""
    if len(content) < _FILE_HEADER + _CORE:
        return None
    pixels, header = struct.unpack_from("<II", content, 10)
    is_core = header == _CORE
    if not is_core and len(content) < _FILE_HEADER + 40:
        return None
    bits: int = struct.unpack_from("<H", content, 24 if is_core else 28)[0]
    if bits > 8:
        return None
    declared: int = 0 if is_core else struct.unpack_from("<I", content, 46)[0]
    declared = declared or 1 << bits
    start, entry = _FILE_HEADER + header, 3 if is_core else 4
    # Some programs write the palette's place where the pixels' place belongs; decoders know that.
    room = declared if pixels in (0, start) else max(0, pixels - start) // entry
    return Palette(bits, start, entry, declared, min(declared, room))


def add_colour(content: bytes, palette: Palette) -> bytes:
    """The same image with a colour that no pixel uses.

    Pillow takes pixels for grey values where the palette is a ramp of grey, and then their bits for 1 or 8,
    whatever the header says. This colour is not grey. OS/2's header has no place for the number of colours.
    """
    end = palette.start + palette.entry_bytes * palette.colours
    pixels: int = struct.unpack_from("<I", content, 10)[0]
    if palette.entry_bytes != 4 or pixels < end:
        return content
    start = struct.pack("<I", end + 4)
    head = content[:10] + start + content[14:46] + struct.pack("<I", palette.colours + 1) + content[50:end]
    return head + _NOT_GREY + content[pixels:]
