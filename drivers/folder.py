"""A folder of images as a camera: `folder:///dir[?fps=10&loop=1]`, in the order of their names.

Every file is one part. An unreadable file is a shot without pixels, so that shot n always belongs to file n.
Folders inside the folder are ignored.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.camera import CameraError, Shot, SourceEnded
from drivers.image_file import SUFFIXES, ImageError, decode_any_depth, read_bytes
from drivers.pace import Clock, Pace, Sleep
from drivers.source import Options

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


class FolderCamera:
    """Implements `Camera`. `device_frame` is the index of the image; it continues over loops."""

    def __init__(self, source: str, clock: Clock = time.monotonic_ns, sleep: Sleep = time.sleep) -> None:
        options = Options(source)
        self._fps = options.number("fps", 0.01, 1000) or 10.0
        self._loop = options.flag("loop", False)
        options.refuse_unknown()
        if options.host or not options.path.strip("/"):
            raise options.error("a folder is named by its absolute path: folder:///path/to/images")
        self._folder = Path(options.path)
        self._error = options.error
        self._clock = clock
        self._sleep = sleep
        self._files: list[Path] = []
        self._pace: Pace | None = None
        self._index = 0
        self._ahead: tuple[Pixels | None, str] | None = None

    def open(self) -> None:
        try:
            self._files = sorted(
                (
                    file
                    for file in self._folder.iterdir()
                    if file.suffix.lower() in SUFFIXES and file.is_file()
                ),
                key=lambda file: file.name,
            )
        except OSError as error:
            raise self._error(f"{self._folder}: {error.strerror}") from None
        if not self._files:
            raise self._error(f"no images in {self._folder}: looked for {' '.join(sorted(SUFFIXES))}")
        self._index = 0
        self._ahead = None
        self._pace = Pace(self._fps, self._clock, self._sleep)

    def read(self, timeout_s: float) -> Shot | None:
        if self._pace is None:
            raise CameraError("the folder is not open: call open() before read()")
        if self._index >= len(self._files) and not self._loop:
            raise SourceEnded(f"all {len(self._files)} images of {self._folder} were read")
        file = self._files[self._index % len(self._files)]
        if self._ahead is None:
            # Decoding takes place before the wait, so that it does not delay the image.
            self._ahead = load(file)
        if not self._pace.wait(timeout_s):
            return None
        pixels, pixel_format = self._ahead
        shot = Shot(
            pixels=pixels,
            pixel_format=pixel_format,
            captured_ns=self._clock(),
            device_ns=self._index * self._pace.period_ns,
            device_frame=self._index,
            fault=None if pixels is not None else f"{file.name} is not a readable image",
        )
        self._pace.advance()
        self._index += 1
        self._ahead = None
        return shot

    def close(self) -> None:
        self._pace = None
        self._ahead = None


def load(file: Path) -> tuple[Pixels | None, str]:
    """The pixels of a file and the name of their format: `BGR8`, `Mono8` or `Mono16`. The pixels are None
    when the file can't be decoded.

    Colour with 16 bits is shifted to 8 bits. An alpha channel is dropped.
    """
    try:
        image = decode_any_depth(read_bytes(file))
    except (ImageError, OSError):
        # OSError: the process has no descriptor left to read the decoder's messages.
        return None, "BGR8"
    if image.ndim == 2:
        return image, "Mono16" if image.dtype == np.uint16 else "Mono8"
    if image.dtype == np.uint16:
        image = np.right_shift(image, 8)
    return image.astype(np.uint8, copy=False), "BGR8"
