"""Image files as bytes for tests: whole ones, and ones with damage at a known place."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image

from drivers import image_file

RED, BLUE = (0, 0, 255), (255, 0, 0)


def plain(colour: tuple[int, int, int], rows: int = 40, columns: int = 60) -> image_file.Image:
    return np.full((rows, columns, 3), colour, np.uint8)


def textured(rows: int = 128, columns: int = 128) -> image_file.Image:
    noise = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def encoded(kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(textured()).save(file, kind, **settings)
    return file.getvalue()


def zeroed(content: bytes, at: int, count: int = 400) -> bytes:
    return content[:at] + bytes(count) + content[at + count :]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def scan(jpeg: bytes) -> int:
    return jpeg.index(b"\xff\xda") + 14


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def exif(orientation: int) -> bytes:
    """EXIF data that holds the orientation alone, without the prefix that JPEG wants."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


def turned(stored: image_file.Image, orientation: int) -> image_file.Image:
    """What a person should see of a stored image, by the table of TIFF 6.0: where its first row and column
    lie."""
    mirrored = stored[:, ::-1]
    return {
        1: stored,
        2: mirrored,
        3: np.rot90(stored, 2),
        4: stored[::-1],
        5: np.rot90(mirrored, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(mirrored, -1),
        8: np.rot90(stored, 1),
    }[orientation]
