"""The one decoder of image files: what is on disk becomes pixels or a named error.

It knows nothing of recipes, networks or lines. The folder camera, training, scoring and the review page read
every image file through it.
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
"""How the lines begin that libjpeg, libpng and OpenCV write to stderr, and those that go on with OpenCV's."""
_DAMAGE = re.compile(
    # A TIFF's directory holds tags that nobody needs here. libjpeg speaks through libtiff as well. Before
    # OpenCV 4.11 errors and warnings looked alike.
    r"(?:\[.* TIFF_Error |(?:\[.* TIFF_Warning |OpenCV TIFF: )(?!TIFFReadDir|TIFFFetch))(?P<tiff>.*)"
    rf"|(?P<jpeg>(?:{_LIBJPEG}).*)"
)


class ImageError(Exception):
    """A file that is no usable image; the message is one line without the file's name."""


def find(folder: Path) -> list[Path]:
    """Every file in `folder`, at any depth, that is named like an image, sorted by path.

    Hidden files and folders are left out. Raises ImageError when the folder can't be listed.
    """

    def refuse(error: OSError) -> None:
        raise ImageError(error.strerror or str(error)) from None

    found = []
    been: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # A link may lead back to where the walk came from.
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
    """A file's image: uint8 (H, W, 3) BGR or (H, W) mono, turned as its EXIF orientation says.

    16-bit values lose their low byte, whatever the image holds; alpha is dropped; CMYK JPEGs become BGR. Of
    several pages the first counts. Raises ImageError.
    """
    return decode(content_of(file))


def content_of(file: Path) -> bytes:
    """A file's bytes. Raises ImageError when it can't be read; a pipe or a device might never end."""
    try:
        kind = file.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise ImageError("a pipe, socket or device, not a file")
        return file.read_bytes()
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None


def decode(content: bytes) -> Image:
    """The image in a file's bytes, in 8 bits, as `read` returns it. Raises ImageError."""
    image = decode_any_depth(content)
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8, copy=False)


def decode_any_depth(content: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The image in a file's bytes: uint8 or uint16, (H, W, 3) BGR or (H, W) mono, contiguous.

    Raises ImageError for bytes that are no image, and for damage that the decoder would fill up: a PNG's
    checksums show any damage; a JPEG or TIFF shows it where the stream stops making sense, so an image that
    only got darker passes; BMP and WebP show it only where the file is cut short.
    """
    if not content:
        raise ImageError("the file is empty")
    if content.startswith(_PNG) and _PNG_END not in content:
        raise ImageError("the file is cut short")
    if content.startswith(jpeg_damage.START) and (why := jpeg_damage.damage(content)):
        raise ImageError(why)
    # For every format: a decoder's lines on stderr would otherwise stand between the program's own.
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
    """What decoders say in the block, in lines, once it has ended."""
    log = cv2.utils.logging
    with overheard(_DECODERS) as said:
        before = log.setLogLevel(log.LOG_LEVEL_DEBUG)
        try:
            yield said
        finally:
            log.setLogLevel(before)


def _damage(said: Iterable[str]) -> str:
    """The first that libjpeg or libtiff said against its data; empty when there was nothing.

    They fill up what they can't decode and go on; OpenCV hands on no more than these lines.
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
