"""What a decoder of image files raises, and the largest file and image that it reads.

It decodes nothing. All decoders of image files use it.
"""

from __future__ import annotations

MAX_PIXELS = 1 << 28
"""268 million pixels. A few damaged bytes in a header can ask for more memory than the machine has."""
MAX_FILE_BYTES = 1 << 31
_LONGEST_REASON = 200


class ImageError(Exception):
    """The file is not a usable image. The message is one line without the file's name."""


def damaged(error: Exception) -> ImageError:
    """The error of a decoder as one line, whatever the file put into it."""
    words = " ".join(str(error).split())
    if not words or "not identified by this driver" in words:
        words = "its header can't be read"
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)
    return ImageError(f"the file is damaged ({shown[:_LONGEST_REASON]})")


def check_size(columns: int, rows: int) -> None:
    """Raises ImageError for an image without pixels, or with more than `MAX_PIXELS`."""
    if columns <= 0 or rows <= 0:
        raise ImageError(f"the header says {columns}x{rows} pixels: the file is damaged")
    if columns * rows > MAX_PIXELS:
        raise ImageError(
            f"the header says {columns}x{rows} pixels, more than {MAX_PIXELS // 10**6} million: "
            "the file is damaged, or save the image smaller"
        )
