"""Decodes image files to pixels, or raises an error with the reason. All image files are read here.

It knows nothing of recipes, networks or lines. The folder camera, training, scoring and the review page use
it. Each format has a decoder that refuses damage; its kinds are compared with known values by tests.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers import jpeg_file, pillow_file, tiff_file
from drivers.image_limits import MAX_FILE_BYTES, ImageError, damaged
from drivers.image_name import SUFFIXES, is_folder_of_images, is_image

__all__ = ["SUFFIXES", "Image", "ImageError", "decode", "decode_any_depth", "find", "read", "read_bytes"]

Image = NDArray[np.uint8]
"""(H, W, 3) BGR or (H, W) mono."""


def find(folder: Path) -> list[Path]:
    """Every image of `folder`, at any depth, sorted by path; `image_name` has the rule.

    Raises ImageError when the folder can't be listed.
    """

    def refuse(error: OSError) -> None:
        raise ImageError(error.strerror or str(error)) from None

    found = []
    been: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(filter(is_folder_of_images, folders))
        # A link may lead back to a parent folder, so each real folder is visited once.
        real = os.path.realpath(place)
        if real in been:
            folders[:] = []
            continue
        been.add(real)
        found += [Path(place) / name for name in files if is_image(name)]
    return sorted(found)


def read(file: Path) -> Image:
    """The image of a file: uint8 (H, W, 3) BGR or (H, W) mono, rotated by its EXIF orientation.

    16-bit values lose their low byte in every image. An alpha channel is dropped; CMYK becomes BGR. Of
    several pages the first is used. Raises ImageError.
    """
    return decode(read_bytes(file))


def read_bytes(file: Path) -> bytes:
    """The bytes of a file. Raises ImageError when it can't be read, and for a pipe or device, which may have
    no end."""
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _read_regular(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None
    except (ValueError, MemoryError) as error:
        # ValueError: a name with a NUL character.
        raise ImageError(str(error) or "the memory does not suffice for this file") from None


def _read_regular(handle: int) -> bytes:
    state = os.fstat(handle)
    if stat.S_ISDIR(state.st_mode):
        raise ImageError("a folder, not a file")
    if not stat.S_ISREG(state.st_mode):
        raise ImageError("a pipe, socket or device, not a file")
    if state.st_size > MAX_FILE_BYTES:
        raise ImageError(f"larger than {MAX_FILE_BYTES >> 30} GiB, so it is not an image")
    with os.fdopen(handle, "rb", closefd=False) as opened:
        return opened.read()


def decode(content: bytes) -> Image:
    """The image of a file's bytes in 8 bits, as `read` returns it. Raises ImageError."""
    image = decode_any_depth(content)
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8, copy=False)


def decode_any_depth(content: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The image of a file's bytes, contiguous: uint8, (H, W, 3) BGR or (H, W) mono, or uint16 (H, W) mono.

    Raises ImageError for bytes that are not an image, for a kind of image that no test covers, and for damage
    that a decoder would fill with invented pixels. In a PNG the checksums show any damage. In a JPEG or TIFF
    damage shows only where the data can't be decoded or does not fit the size, so damage that only makes the
    image darker is not found. In BMP and WebP it shows only where the file is cut short.
    """
    if not content:
        raise ImageError("the file is empty")
    try:
        image = _decoded(content)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the memory does not suffice for this image: save it smaller") from None
    except Exception as error:  # noqa: BLE001 - whatever a file holds must not end the program that reads it
        raise damaged(error) from None
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pixels are {image.dtype}; save the image with 8 or 16 bits a channel")
    return np.ascontiguousarray(image)


def _decoded(content: bytes) -> NDArray[Any]:
    if content.startswith(jpeg_file.START):
        return jpeg_file.decode(content)
    if content.startswith(tiff_file.STARTS):
        return tiff_file.decode(content)
    if pillow_file.is_readable(content):
        return pillow_file.decode(content)
    raise ImageError("not a readable image: only PNG, JPEG, BMP, TIFF and WebP are read")
