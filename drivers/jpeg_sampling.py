"""Decodes JPEG files by Pillow whose colours are subsampled in a way that simplejpeg can't decode.

It knows nothing of segments. Pillow passes over damage that libjpeg only warns of, so the file is decoded
twice more with other bytes at the end of its image data. That shows such damage only where all image data
stands in one sequential scan without restart markers.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from drivers.image_limits import ImageError, damaged

_TAIL = 16
"""Bytes of image data that are replaced. Each of the last blocks of an image takes at least some bits."""
_NOT_NEEDED = b"\x55\xaa" * 32
_END = b"\xff\xd9"


def decode(header: bytes, data: bytes) -> NDArray[Any]:
    """The image of a file's header and image data: uint8, (H, W, 3) BGR. Raises ImageError.

    If the image data is whole, bytes behind it change nothing, and its last bytes do. Damage lets the decoder
    lose its place in the data, so that the data ends too early or too late.
    """
    image = _decoded(header + data + _END)
    if not np.array_equal(_decoded(header + data + _NOT_NEEDED + _END), image):
        raise ImageError("the file is damaged (its image data ends too early)")
    start = max(0, len(data) - _TAIL)
    # A zero after 0xFF belongs to it.
    start -= data[start - 1 : start] == b"\xff"
    other = bytes(value ^ 0x5A for value in data[start:]).replace(b"\xff", b"\xfe")
    if np.array_equal(_decoded(header + data[:start] + other + _END), image):
        raise ImageError("the file is damaged (it has more image data than its size needs)")
    return image[:, :, ::-1]


def _decoded(content: bytes) -> NDArray[Any]:
    """The RGB samples. Not by `PIL.Image.open`, whose limit of pixels belongs to the whole process."""
    try:
        image = JpegImageFile(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        if "truncated" in str(error):
            raise ImageError("the file is cut short") from None
        raise damaged(error) from None
    if image.mode != "RGB":
        raise ImageError(f"a JPEG of the kind {image.mode} with unusual subsampling: save it as PNG")
    return np.asarray(image)
