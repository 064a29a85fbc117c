"""Image files, and the one way from an image to the network's input.

Training, calibration, scoring of files and the running line all go through `prepare`; a second path would be
a second inspection. Nothing here may depend on what is in the image: no stretching, no equalising.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from monitor import jpeg
from monitor.legible import in_one_line
from monitor.overheard import overheard

Image = NDArray[np.uint8]
"""(H, W, 3) BGR or (H, W) mono."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

COLOUR_ORDER = "RGB"
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
HALVED_FROM = 2
RESIZE = f"squash-area, halved from {HALVED_FROM} times"
"""Squashed to the recipe's size as in the paper. Shrinking averages every pixel that falls into the new one:
a bilinear sample would skip most pixels of a large frame, so that noise, and a defect of few pixels, come and
go with a shift by one. Images of HALVED_FROM times the size and more are halved first, which is vectorised:
1920x1080 to 256 takes 1.0 ms instead of 4.5. Growing is bilinear."""
TILED_RESIZE = f"{RESIZE}, tiled"
"""And then cut into tiles (`monitor.tiling`)."""

SCALE = (1 / (255 * np.array(DEVIATION))).astype(np.float32)
SHIFT = (-np.array(MEAN) / np.array(DEVIATION)).astype(np.float32)
"""A grey level times the first plus the second is what the network gets, by channel (RGB)."""

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


Size = tuple[int, int]
"""Rows and columns."""


class Pictures(Protocol):
    """Images by index, as the network sees them: uint8 (H, W, 3) or (H, W), all of one height and width."""

    def __getitem__(self, index: int, /) -> Image: ...


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
    """`read` for a file's bytes. Raises ImageError, also where the decoder would make something up.

    A PNG's checksums show any damage. In a JPEG or TIFF it is seen where the stream stops making sense: an
    image that only got darker passes. BMP and WebP have nothing to see it by, unless they are cut short.
    """
    if not content:
        raise ImageError("the file is empty")
    if content.startswith(_PNG) and _PNG_END not in content:
        raise ImageError("the file is cut short")
    if content.startswith(jpeg.START) and (why := jpeg.damage(content)):
        raise ImageError(why)
    # Of every kind: a line that its decoder writes would stand between those of whoever reads files.
    with _overheard() as said:
        image = _decoded(content)
    if content.startswith((jpeg.START, *_TIFF)) and (damage := _damage(said)):
        raise ImageError(f"the file is damaged ({damage})")
    if image is None:
        why = next((f" ({line})" for line in said if line.startswith(_LIBPNG)), "")
        raise ImageError(f"not a readable image{why}")
    return _eight_bits(image)


def readable(files: Iterable[Path], say: Callable[[str], None]) -> Iterator[tuple[Path, bytes, Image]]:
    """Each usable file with its content and image; `say` hears of the others, in a line each:
    `skipped: name: why`."""
    for file in files:
        try:
            content = content_of(file)
            image = decode(content)
        except ImageError as error:
            say(f"skipped: {in_one_line(str(file))}: {error}")
        else:
            yield file, content, image


def as_size(size: int | Size) -> Size:
    """A square's for one number."""
    return (size, size) if isinstance(size, int) else size


def prepare(image: Image, size: Size) -> NDArray[np.float32]:
    """An image as the network's input: float32 (3, *size), RGB, ImageNet-normalised.

    `image` is uint8 (H, W, 3) BGR or (H, W) mono, which becomes three equal channels. Raises ValueError for
    any other array.
    """
    return normalised(squashed(image, size))


def require(image: Image) -> None:
    """Raises ValueError for an array that is no image."""
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or not image.size
        or image.shape[2:] not in ((), (3,))
    ):
        raise ValueError(f"an image is uint8 (H, W, 3) or (H, W), not {image.dtype} {tuple(image.shape)}")


def squashed(image: Image, size: Size) -> Image:
    """`prepare`'s first half: the image at `size`, still uint8, BGR or mono; maybe `image` itself."""
    require(image)
    (rows, columns), (height, width) = image.shape[:2], size
    small: Any = image
    least = HALVED_FROM * height, HALVED_FROM * width
    while rows >= least[0] and columns >= least[1] and rows % 2 == 0 and columns % 2 == 0:
        rows, columns = rows // 2, columns // 2
        small = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_AREA)
    # Each axis by its own rule, because OpenCV averages only where both shrink.
    if rows > height or columns > width:
        small = cv2.resize(small, (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    if rows < height or columns < width:
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(small, np.uint8)


def normalised(image: Image) -> NDArray[np.float32]:
    """`prepare`'s second half: float32 (3, H, W), RGB, ImageNet-normalised."""
    prepared = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        plane = image if image.ndim == 2 else image[:, :, 2 - channel]
        np.multiply(plane, SCALE[channel], out=prepared[channel], casting="unsafe")
        prepared[channel] += SHIFT[channel]
    return prepared


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


def _eight_bits(image: NDArray[Any]) -> Image:
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"pixels are {image.dtype}; save the image with 8 or 16 bits a channel")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3:
        image = image[:, :, :3]
    return np.ascontiguousarray(image)
