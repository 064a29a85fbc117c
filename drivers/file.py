"""A video clip as a camera: `file:///clip.mp4[?loop=1&fps=25]`, at the clip's frame rate or the given one.

Every image of the clip is one part. A slow reader slows the clip down; no image is skipped. At most one image
is decoded ahead of its time. An image that ends the program is one shot without pixels. If it ends the next
program too, the clip is refused from there on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.camera import CameraError, CameraLost, Shot, SourceEnded
from drivers.ffmpeg import open_capture
from drivers.pace import Clock, Pace, Sleep
from drivers.progress import Mark, Progress, Step, Unkept
from drivers.source import Options

_AFTER_END = "after a worker's end"
"""The name in the mark until an image is decoded after one that ended the program. No image behind that one
can be reached without decoding it, so a second end means that the rest of the clip can't be read."""


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
        self._grabbed = False
        """Whether the capture holds the next image."""
        self._ahead: tuple[NDArray[np.uint8] | None, str | None] | None = None
        """The next image, decoded, or the fault if it has no pixels."""
        self._after_end = ""

    @property
    def place(self) -> str:
        """What is read, for people; known once the clip is open."""
        return str(self._file.resolve())

    def open(self) -> None:
        self.close()
        self._file = self._options.find_path()
        if not self._file.is_file():
            raise self._options.error(f"no such file: {self._file}")
        mark = self._progress.mark
        self._index = mark.next_index
        if mark.step is not Step.DECODING:
            with self._marked():
                self._start()
        elif not mark.name:
            self._after_end = _AFTER_END
            self._ahead = None, "the previous capture worker ended while it decoded this image"
        else:
            raise self._options.error(
                f"{self._file} can't be decoded from image {self._index} on: capture workers ended there. "
                "Convert the clip, then restart the service"
            )

    def read(self, timeout_s: float) -> Shot | None:
        if self._ahead is None:
            if self._capture is None and not self._after_end:
                raise CameraError("the clip is not open: call open() before read()")
            # Decoding takes place before the wait, so that it does not delay the image.
            with self._marked():
                if self._capture is None:
                    self._start()
                if self._skip(timeout_s):
                    self._next()
        if self._ahead is None or (self._pace and not self._pace.wait(timeout_s)):
            return None
        pixels, fault = self._ahead
        shot = Shot(
            pixels=pixels,
            pixel_format="BGR8" if pixels is None or pixels.ndim == 3 else "Mono8",
            captured_ns=self._clock(),
            device_ns=self._index * self._pace.period_ns if self._pace else None,
            device_frame=self._index,
            fault=fault,
        )
        if self._pace:
            self._pace.advance()
        self._index += 1
        self._ahead = None
        return shot

    def close(self) -> None:
        capture, self._capture = self._capture, None
        self._pace = self._ahead = None
        self._grabbed, self._after_end = False, ""
        if capture is not None:
            capture.release()

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """Keep the mark that the next image is being decoded. If the decoder ends this program, it stays."""
        self._progress.begin(self._index, self._after_end)
        try:
            yield
        except (CameraError, SourceEnded):
            self._progress.keep(Mark(self._index - 1))
            raise
        if self._ahead is None:
            self._progress.keep(Mark(self._index - 1))
        else:
            self._progress.finish()
            self._after_end = ""

    def _start(self) -> None:
        """Open the clip, to go on with the image of the present index."""
        self._to_skip = self._index
        self._rewind()
        assert self._capture is not None
        fps = self._fps or float(self._capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(fps) and 0.01 <= fps <= 1000):
            raise self._options.error("the clip has no usable frame rate: add ?fps=25")
        self._pace = Pace(fps, self._clock, self._sleep)

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
        """Decode the next image."""
        assert self._capture is not None
        if not self._grabbed and not self._capture.grab():
            if not self._loop:
                raise SourceEnded(f"the clip {self._file} has ended after {self._index} images")
            # The clip is opened again, because seeking back skips images in clips with irregular key frames.
            self._rewind()
        got, pixels = self._capture.retrieve()
        self._grabbed = False
        usable = got and pixels is not None and pixels.dtype == np.uint8
        self._ahead = (
            (pixels.astype(np.uint8, copy=False), None) if usable else (None, "image could not be decoded")
        )

    def _rewind(self) -> None:
        """Open the clip and grab its first image."""
        capture, self._capture = self._capture, None
        kind = CameraError if capture is None else CameraLost
        if capture is not None:
            capture.release()
        capture = open_capture(str(self._file), {})
        if capture is None or not capture.grab():
            raise kind(f"{self._file} can't be played: is it a complete video file?")
        self._capture = capture
        self._grabbed = True
        self._skipped = 0
