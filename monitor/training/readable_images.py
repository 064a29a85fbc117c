"""Image files for training and calibration: the usable ones, and a line about each of the others.

It knows nothing of what the images train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from drivers.image_file import Image, ImageError, content_of, decode
from monitor.system.printable import in_one_line


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
