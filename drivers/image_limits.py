"""What a decoder of image files raises, and the largest file and image that it reads.

It decodes nothing. All decoders of image files use it.
"""

from __future__ import annotations

MAX_PIXELS = 1 << 28
"""268 million pixels. A few damaged bytes in a header can ask for more memory than the machine has."""
MAX_FILE_BYTES = 1 << 31


class ImageError(Exception):
    """The file is not a usable image. The message is one line without the file's name."""


def check_size(columns: int, rows: int) -> None:
    """Raises ImageError for an image without pixels, or with more than `MAX_PIXELS`."""
    if columns <= 0 or rows <= 0:
        raise ImageError(f"the header says {columns}x{rows} pixels: the file is damaged")
    if columns * rows > MAX_PIXELS:
        raise ImageError(
            f"the header says {columns}x{rows} pixels, more than {MAX_PIXELS // 10**6} million: "
            "the file is damaged, or save the image smaller"
        )
