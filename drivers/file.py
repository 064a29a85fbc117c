"""A video clip as a camera: `file:///clip.mp4[?loop=1&fps=25]`, at the clip's frame rate or the given one.

Every image of the clip is one part. A slow reader slows the clip down; no image is skipped. At most one image
is decoded ahead of its time.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import cv2
import numpy as np

from drivers.camera import CameraError, CameraLost, Shot, SourceEnded
from drivers.ffmpeg import open_capture
from drivers.pace import Clock, Pace, Sleep
from drivers.progress import Progress, Unkept
from drivers.source import Options


class FileCamera:
    """Implements `Camera`. `device_frame` is the index of the image; it continues over loops."""

    def __init__(
        self,
        source: str,
        clock: Clock = time.monotonic_ns,
        sleep: Sleep = time.sleep,
        progress: Progress | None = None,
    ) -> None:
        options = Options(source)
        self._fps = options.number("fps", 0.01, 1000)
        self._loop = options.flag("loop", False)
        options.refuse_unknown()
        if options.host or not options.path.strip("/"):
            raise options.error("a clip is named by its absolute path: file:///path/to/clip.mp4")
        self._file = Path(options.path)
        self._options = options
        self._progress = progress or Unkept()
        self._clock = clock
        self._sleep = sleep
        self._capture: cv2.VideoCapture | None = None
        self._pace: Pace | None = None
        self._index = self._to_skip = self._skipped = 0
        self._ahead = False

    @property
    def place(self) -> str:
        """What is read, for people; known once the clip is open."""
        return str(self._file.resolve())

    def open(self) -> None:
        self.close()
        self._file = self._options.find_path()
        if not self._file.is_file():
            raise self._options.error(f"no such file: {self._file}")
        self._rewind()
        assert self._capture is not None
        fps = self._fps or float(self._capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(fps) and 0.01 <= fps <= 1000):
            raise self._options.error("the clip has no usable frame rate: add ?fps=25")
        self._pace = Pace(fps, self._clock, self._sleep)
        self._index = self._to_skip = self._progress.mark.next_index

    def read(self, timeout_s: float) -> Shot | None:
        if self._capture is None or self._pace is None:
            raise CameraError("the clip is not open: call open() before read()")
        if not self._skip(timeout_s):
            return None
        if not self._ahead:
            # Decoding takes place before the wait, so that it does not delay the image.
            self._next()
        if not self._pace.wait(timeout_s):
            return None
        got, pixels = self._capture.retrieve()
        captured_ns = self._clock()
        usable = got and pixels is not None and pixels.dtype == np.uint8
        shot = Shot(
            pixels=pixels.astype(np.uint8, copy=False) if usable else None,
            pixel_format="BGR8" if not usable or pixels.ndim == 3 else "Mono8",
            captured_ns=captured_ns,
            device_ns=self._index * self._pace.period_ns,
            device_frame=self._index,
            fault=None if usable else "image could not be decoded",
        )
        self._progress.begin(self._index)
        self._pace.advance()
        self._index += 1
        self._ahead = False
        return shot

    def close(self) -> None:
        capture, self._capture = self._capture, None
        self._ahead = False
        if capture is not None:
            capture.release()

    def _skip(self, timeout_s: float) -> bool:
        """Pass over the images that were given before, within the time. Returns whether that is done."""
        assert self._capture is not None
        give_up_ns = self._clock() + round(timeout_s * 1e9)
        while self._skipped < self._to_skip:
            # The image at hand is number `_skipped`.
            if self._capture.grab():
                self._skipped += 1
            elif self._loop:
                self._to_skip %= self._skipped + 1
                self._rewind()
            else:
                raise SourceEnded(f"the clip {self._file} was read before, all {self._skipped + 1} images")
            if self._clock() > give_up_ns:
                return False
        self._to_skip = 0
        return True

    def _next(self) -> None:
        assert self._capture is not None
        if not self._capture.grab():
            if not self._loop:
                raise SourceEnded(f"the clip {self._file} has ended after {self._index} images")
            # The clip is opened again, because seeking back skips images in clips with irregular key frames.
            self._rewind()
        self._ahead = True

    def _rewind(self) -> None:
        """Open the clip and grab its first image."""
        kind = CameraLost if self._capture is not None else CameraError
        self.close()
        self._capture = open_capture(str(self._file), {})
        if self._capture is None or not self._capture.grab():
            self.close()
            raise kind(f"{self._file} can't be played: is it a complete video file?")
        self._ahead = True
        self._skipped = 0
