"""Decodes PNG, BMP and WebP files by Pillow, which raises an error where a file is damaged or cut short.

It knows nothing of JPEG and TIFF. Checksums show any damage of a PNG. In BMP and WebP damage shows only where
the data can't be decoded. Pillow leaves black what a file does not hold, so that is looked for here.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.Image import Image
from PIL.ImageFile import ImageFile

from drivers import bmp_palette, png_layout
from drivers.image_limits import ImageError, check_size
from drivers.orientation import read_exif, upright

_PNG, _BMP = b"\x89PNG\r\n\x1a\n", b"BM"
_RIFF, _WEBP = b"RIFF", b"WEBP"
_STRIP = 256
"""Rows that are copied at a time."""
_LOST_BITS = {"BGR;15": (0xF8, 0xF8, 0xF8), "BGR;16": (0xF8, 0xFC, 0xF8)}
"""Pillow stretches the 5 and 6 bits of 16-bit BMPs; here their low bits are zeros."""

_PALETTE_MODES = {1: ("1", "P"), 4: ("P",), 8: ("L", "P")}
"""By bits of a BMP's pixel, the modes that Pillow reads right."""

# Pillow refuses a PNG with more than 1 MiB of text or colour profile after decompression; image editors
# write more. A limit remains, since little data can decompress to very much. It holds in the whole process.
PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20
PngImagePlugin.MAX_TEXT_MEMORY = 256 << 20


def is_readable(content: bytes) -> bool:
    """Whether the file begins as a PNG, BMP or WebP does."""
    return content.startswith((_PNG, _BMP)) or (content[:4] == _RIFF and content[8:12] == _WEBP)


def decode(content: bytes) -> NDArray[Any]:
    """The image: uint8 or uint16, (H, W, 3) BGR or (H, W) mono. Of several images the first is used.

    16-bit colour becomes 8-bit. An alpha channel is dropped, which leaves the colours as they are. Raises
    ImageError for an image that is too large; Pillow's errors have many types.
    """
    image = _opened(content)
    check_size(*image.size)
    if isinstance(image, PngImagePlugin.PngImageFile):
        image = _loaded_png(content, image)
    elif isinstance(image, BmpImagePlugin.BmpImageFile):
        image = _loaded_bmp(content, image)
    lost = _lost_bits(image)
    image.load()
    array = _array(image)
    return upright(array if lost is None else array & lost, read_exif(image.info.get("exif", b"")))


def _loaded_png(content: bytes, image: ImageFile) -> ImageFile:
    # Loading does not look at the checksums of the image data; this does. It uses the file up.
    image.verify()
    layout = png_layout.read_layout(content)
    image = _opened(content)
    image.load()
    # Data that ends too early leaves the last row zero. Rows of an interlaced image come in another order.
    bottom = image.crop((0, image.height - 1, *image.size))
    if layout.is_interlaced or not np.asarray(bottom).any():
        png_layout.check_data(layout)
    if layout.colours is not None:
        _check_indices(image, layout.colours)
    return image


def _loaded_bmp(content: bytes, image: ImageFile) -> ImageFile:
    palette = bmp_palette.read_palette(content)
    if palette is None:
        return image
    if image.mode not in _PALETTE_MODES.get(palette.bits, ()):
        image = _opened(bmp_palette.add_colour(content, palette))
        if image.mode != "P":
            raise ImageError(f"a BMP with {palette.bits} bits and a palette of grey: save it as PNG")
    image.load()
    _check_indices(image, palette.colours)
    return image


def _check_indices(image: Image, colours: int) -> None:
    if int(np.asarray(image).max()) >= colours:
        raise ImageError(f"the file is damaged (a pixel has a colour beyond the {colours} of its palette)")


def _opened(content: bytes) -> ImageFile:
    """Not by `PIL.Image.open`, whose limit of pixels belongs to the whole process."""
    kind: type[ImageFile]
    if content.startswith(_PNG):
        kind = PngImagePlugin.PngImageFile
    elif content.startswith(_BMP):
        kind = BmpImagePlugin.BmpImageFile
    else:
        kind = WebPImagePlugin.WebPImageFile
    return kind(io.BytesIO(content))


def _lost_bits(image: ImageFile) -> NDArray[np.uint8] | None:
    raw = image.tile[0].args if image.tile else None
    mode = raw[0] if isinstance(raw, tuple) else raw
    bits = _LOST_BITS.get(mode) if isinstance(mode, str) else None
    return None if bits is None else np.array(bits, np.uint8)


def _array(image: ImageFile) -> NDArray[Any]:
    if image.mode in ("L", "I;16"):
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    # Pillow warns where it drops a palette's alpha.
    image.info.pop("transparency", None)
    if image.mode in ("LA", "P", "RGB", "RGBA", "RGBX"):
        return _bgr(image if image.mode == "RGB" else image.convert("RGB"))
    raise ImageError(f"pixels of the kind {image.mode}: save the image with 8 or 16 bits a channel")


def _bgr(image: Image) -> NDArray[np.uint8]:
    """The pixels of an RGB image. They are copied by strips, because each copy of a large image takes much
    memory."""
    array = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        array[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))[:, :, ::-1]
    return array
