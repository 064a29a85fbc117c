"""Decodes image files to pixels, or raises an error with the reason. All image files are read here.

It knows nothing of recipes, networks or lines. The folder camera, training, scoring and the review page use
it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers import jpeg_damage
from drivers.stderr_capture import overheard

Image = NDArray[np.uint8]
"""(H, W, 3) BGR or (H, W) mono."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_PNG, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LIBJPEG = (
    "Corrupt JPEG data|Premature end of JPEG file|Inconsistent progression sequence|Invalid SOS parameters"
    "|Unknown Adobe color transform|Warning: unknown JFIF revision|Application transferred too many scanlines"
)
_LIBPNG = "libpng error: "
_DECODERS = re.compile(rf"{_LIBJPEG}|{_LIBPNG}|libpng warning: |\[ *[A-Z]+:\d+@|OpenCV TIFF|>|\n")
"""Beginnings of the lines that libjpeg, libpng and OpenCV write to stderr, and of OpenCV's continuation
lines."""
_DAMAGE = re.compile(
    # Problems with a TIFF's directory concern tags that are not used here. libtiff also passes on libjpeg's
    # messages. Before OpenCV 4.11 errors and warnings of libtiff had the same prefix.
    r"(?:\[.* TIFF_Error |(?:\[.* TIFF_Warning |OpenCV TIFF: )(?!TIFFReadDir|TIFFFetch))(?P<tiff>.*)"
    rf"|(?P<jpeg>(?:{_LIBJPEG}).*)"
)


class ImageError(Exception):
    """The file is not a usable image. The message is one line without the file's name."""


def find(folder: Path) -> list[Path]:
    """Every file in `folder`, at any depth, with the suffix of an image, sorted by path.

    Hidden files and folders are skipped. Raises ImageError when the folder can't be listed.
    """

    def refuse(error: OSError) -> None:
        raise ImageError(error.strerror or str(error)) from None

    found = []
    been: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # A link may lead back to a parent folder, so each real folder is visited once.
        real = os.path.realpath(place)
        if real in been:
            folders[:] = []
            continue
        been.add(real)
        found += [
            Path(place) / name
            for name in files
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def read(file: Path) -> Image:
    """The image of a file: uint8 (H, W, 3) BGR or (H, W) mono, rotated by its EXIF orientation.

    16-bit values lose their low byte in every image. An alpha channel is dropped; CMYK JPEGs become BGR. Of
    several pages the first is used. Raises ImageError.
    """
    return decode(read_bytes(file))


def read_bytes(file: Path) -> bytes:
    """The bytes of a file. Raises ImageError when it can't be read, and for a pipe or device, which may have
    no end."""
    try:
        kind = file.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise ImageError("a pipe, socket or device, not a file")
        return file.read_bytes()
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None


def decode(content: bytes) -> Image:
    """The image of a file's bytes in 8 bits, as `read` returns it. Raises ImageError."""
    image = decode_any_depth(content)
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8, copy=False)


def decode_any_depth(content: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The image of a file's bytes: uint8 or uint16, (H, W, 3) BGR or (H, W) mono, contiguous.

    Raises ImageError for bytes that are not an image, and for damage that the decoder would fill with
    invented pixels. In a PNG the checksums show any damage. In a JPEG or TIFF damage shows only where the
    data can't be decoded, so damage that only makes the image darker is not found. In BMP and WebP it shows
    only where the file is cut short.
    """
    if not content:
        raise ImageError("the file is empty")
    if content.startswith(_PNG) and _PNG_END not in content:
        raise ImageError("the file is cut short")
    if content.startswith(jpeg_damage.START) and (why := jpeg_damage.damage(content)):
        raise ImageError(why)
    # stderr is captured for every format, so that a decoder's lines do not mix with the program's own.
    with _overheard() as said:
        image = _decoded(content)
    if content.startswith((jpeg_damage.START, *_TIFF)) and (damage := _damage(said)):
        raise ImageError(f"the file is damaged ({damage})")
    if image is None:
        why = next((f" ({line})" for line in said if line.startswith(_LIBPNG)), "")
        raise ImageError(f"not a readable image{why}")
    return _three_channels_at_most(image)


def _decoded(content: bytes) -> NDArray[Any] | None:
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise ImageError(f"not a readable image ({error.err})") from None
    return None if decoded is None else np.asarray(decoded)


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """A list that holds the decoders' lines on stderr after the end of the block."""
    log = cv2.utils.logging
    with overheard(_DECODERS) as said:
        before = log.setLogLevel(log.LOG_LEVEL_DEBUG)
        try:
            yield said
        finally:
            log.setLogLevel(before)


def _damage(said: Iterable[str]) -> str:
    """The first message of libjpeg or libtiff about damaged data; empty if there is none.

    These libraries fill the parts that they can't decode and continue. OpenCV reports it only in these lines.
    """
    for line in said:
        if found := _DAMAGE.match(line):
            return found["tiff"] or found["jpeg"]
    return ""


def _three_channels_at_most(image: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pixels are {image.dtype}; save the image with 8 or 16 bits a channel")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3:
        image = image[:, :, :3]
    return np.ascontiguousarray(image)
