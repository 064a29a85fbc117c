"""A folder of images as a camera: `folder:///dir[?fps=10&loop=1]`, in the order of their names.

Every image is one part; `image_name` has the rule for what is an image. An unreadable one is a shot without
pixels. A folder that is gone, or that holds no image any more (a share that was unmounted), is a lost camera.
Folders inside the folder are ignored. Who opens the folder again goes on after the image that was given last,
also when files were added or removed.
"""

from __future__ import annotations

import errno
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.camera import CameraError, CameraLost, Shot, SourceEnded
from drivers.image_file import SUFFIXES, ImageError, decode_any_depth, read_bytes
from drivers.image_name import is_image
from drivers.pace import Clock, Pace, Sleep
from drivers.progress import Progress, Step, Unkept
from drivers.source import Options

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
_Image = tuple[Pixels | None, str, str | None]
"""Pixels, the name of their format, and the fault if there are no pixels."""
_LEAD = 3
"""An image is read so many times earlier than it is due as the slowest of the last ones took to read."""
_MOST_GONE = 10
"""After so many files in a row that do not exist any more, the folder is taken for a refilled one."""


class FolderCamera:
    """Implements `Camera`. `device_frame` is the index of the image; it continues over loops."""

    def __init__(
        self,
        source: str,
        clock: Clock = time.monotonic_ns,
        sleep: Sleep = time.sleep,
        progress: Progress | None = None,
    ) -> None:
        options = Options(source)
        self._fps = options.number("fps", 0.01, 1000) or 10.0
        self._loop = options.flag("loop", False)
        options.refuse_unknown()
        if options.host or not options.path.strip("/"):
            raise options.error("a folder is named by its absolute path: folder:///path/to/images")
        self._options = options
        self._clock = clock
        self._sleep = sleep
        self._progress = progress or Unkept()
        self._folder = Path(options.path)
        self._files: list[str] = []
        self._pace: Pace | None = None
        self._index = self._at = 0
        self._ahead: _Image | None = None
        self._lead_ns = 0
        """How long before its due time an image is read."""
        self._gone = 0
        """How many files in a row were listed and do not exist any more."""

    @property
    def place(self) -> str:
        """What is read, for people; known once the folder is open."""
        return f"{self._folder.resolve()} ({len(self._files)} images)"

    def open(self) -> None:
        self._folder = self._options.find_path()
        try:
            # A million files are listed in about a second; `Path.iterdir` would ask for each of them.
            with os.scandir(self._folder) as listed:
                self._files = sorted(_image_names(listed))
        except OSError as error:
            raise self._options.error(f"{self._folder}: {_explain(error)}") from None
        if not self._files:
            raise self._options.error(f"no images in {self._folder}: looked for {' '.join(sorted(SUFFIXES))}")
        self._ahead, self._gone = None, 0
        self._resume()
        self._pace = Pace(self._fps, self._clock, self._sleep)
        self._lead_ns = self._pace.period_ns

    def _resume(self) -> None:
        """Go to the image that follows the mark. The one that ended the program before is not read again."""
        mark = self._progress.mark
        self._index = self._at = mark.next_index
        if mark.name:
            after = bisect_right if mark.step is Step.TOLD else bisect_left
            self._at = after(self._files, mark.name)
        if self._loop:
            self._at %= len(self._files)
        if mark.step is Step.DECODING and mark.name in self._files:
            self._ahead = (
                None,
                "BGR8",
                "the previous capture worker ended while it read this file",
            )

    def read(self, timeout_s: float) -> Shot | None:
        if self._pace is None:
            raise CameraError("the folder is not open: call open() before read()")
        if self._at >= len(self._files):
            raise SourceEnded(f"all {len(self._files)} images of {self._folder} were read")
        name = self._files[self._at]
        if self._ahead is None:
            # Decoding ends before the image is due, so it does not delay it. It does not begin at once, when
            # the image before is being scored.
            if not self._pace.wait(timeout_s, self._lead_ns):
                return None
            began = self._clock()
            self._progress.begin(self._index, name)
            ahead = load(self._folder / name)
            self._progress.finish()
            if ahead[2] is None:
                # It falls slowly, since the next image may take as long as one before.
                self._lead_ns = max(_LEAD * (self._clock() - began), self._lead_ns * 9 // 10)
            self._gone = self._gone + 1 if ahead[2] and not os.path.lexists(self._folder / name) else 0
            if ahead[2] is not None:
                self._refuse_lost_folder()
            self._ahead = ahead
        if not self._pace.wait(timeout_s):
            return None
        pixels, pixel_format, fault = self._ahead
        shot = Shot(
            pixels=pixels,
            pixel_format=pixel_format,
            captured_ns=self._clock(),
            device_ns=self._index * self._pace.period_ns,
            device_frame=self._index,
            fault=fault and f"{name} is not a readable image: {fault}",
        )
        self._pace.advance()
        self._index += 1
        self._at += 1
        if self._loop:
            self._at %= len(self._files)
        self._ahead = None
        return shot

    def _refuse_lost_folder(self) -> None:
        """Raises CameraLost where the folder is gone, holds no image any more, or holds others than were
        listed. Otherwise only the one file is unreadable."""
        problem = ""
        if self._gone >= _MOST_GONE:
            problem = f"its last {_MOST_GONE} files are gone: it is listed anew"
        try:
            with os.scandir(self._folder) as listed:
                if not any(_image_names(listed)):
                    problem = "it holds no images any more: mount or fill it"
        except OSError as error:
            problem = _explain(error)
        if problem:
            raise CameraLost(str(self._options.error(f"{self._folder}: {problem}")))

    def close(self) -> None:
        self._pace = None
        self._ahead = None


def _image_names(listed: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    return (file.name for file in listed if is_image(file.name) and not _is_folder(file))


def _explain(error: OSError) -> str:
    """Why a folder can't be listed, with the fix."""
    match error.errno:
        case errno.ENOENT:
            return "there is no such folder: create or mount it, or correct the path"
        case errno.ENOTDIR:
            return "it is not a folder: give the folder that holds the images"
        case errno.EACCES | errno.EPERM:
            return "this program's account may not read the folder: allow it, as with chmod"
    return f"{error.strerror}: check the disk or the network share"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder. A link that leads nowhere is none: it becomes one unreadable image."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def load(file: Path) -> _Image:
    """The pixels of a file and the name of their format: `BGR8`, `Mono8` or `Mono16`; without pixels, why.

    Colour with 16 bits is shifted to 8 bits. An alpha channel is dropped.
    """
    try:
        image = decode_any_depth(read_bytes(file))
    except ImageError as error:
        return None, "BGR8", str(error)
    if image.ndim == 2:
        return image, "Mono16" if image.dtype == np.uint16 else "Mono8", None
    return image, "BGR8", None
