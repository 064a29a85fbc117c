"""A frame: one exposure of one camera, with its times and pixel format, and the conversion of its pixels.

It knows nothing of the ring, which holds the pixels. The capture worker makes the frame, the scoring worker
converts its pixels. The conversion must never scale brightness by the content of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.camera import Shot
from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.verdict import Reason


class PixelFormat(IntEnum):
    """Pixel formats by their names in the GenICam Pixel Format Naming Convention (PFNC 2.4).

    The numbers are this project's own and are stored in the ring. Formats above 8 bits are unpacked to
    uint16, right-aligned.
    """

    BGR8 = 1
    RGB8 = 2
    Mono8 = 3
    BayerRG8 = 4
    BayerGR8 = 5
    BayerGB8 = 6
    BayerBG8 = 7
    Mono10 = 8
    Mono12 = 9
    Mono16 = 10

    @property
    def channels(self) -> int:
        return 3 if self in (PixelFormat.BGR8, PixelFormat.RGB8) else 1

    @property
    def bytes_per_channel(self) -> int:
        return 2 if self in _SHIFT else 1

    @property
    def is_bayer(self) -> bool:
        return self in _DEMOSAIC


_SHIFT = {PixelFormat.Mono10: 2, PixelFormat.Mono12: 4, PixelFormat.Mono16: 8}

# OpenCV names a Bayer pattern by the second and third pixel of the second row, PFNC by the first two pixels
# of the first row. So the names differ: PFNC BayerRG is OpenCV BayerBG.
_DEMOSAIC = {
    PixelFormat.BayerRG8: cv2.COLOR_BayerBG2BGR,
    PixelFormat.BayerGR8: cv2.COLOR_BayerGB2BGR,
    PixelFormat.BayerGB8: cv2.COLOR_BayerGR2BGR,
    PixelFormat.BayerBG8: cv2.COLOR_BayerRG2BGR,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """A captured frame. Times are CLOCK_MONOTONIC nanoseconds, except for `captured_utc_ns` and
    `device_ns`."""

    number: int
    """Counts up by one from 1 at the session's start, also across restarts of workers."""
    captured_ns: int
    captured_utc_ns: int
    decide_by_ns: int
    """The publisher waits for a score until this time, so that it can still publish before the deadline."""
    deadline_ns: int
    """The time by which the verdict must be published."""
    expires_ns: int
    """The last moment at which the gate can act. Nothing is sent after it."""
    device_ns: int
    """The device's own time stamp; -1 when it gives none."""
    device_frame: int
    """The device's own frame number; -1 when it gives none."""
    slot: int
    """The place of the pixels in the ring; -1 for a frame without pixels."""
    format: PixelFormat
    height: int
    width: int
    refused: Reason = Reason.NONE
    """Set when the capture worker could not offer the frame for scoring: it is uninspected for this
    reason."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, 3) if self.format.channels == 3 else (self.height, self.width)

    @property
    def nbytes(self) -> int:
        return self.height * self.width * self.format.channels * self.format.bytes_per_channel


def publishing_margin_ms(deadline_ms: int) -> float:
    """How long before its deadline a frame is decided: the time to publish the verdict."""
    return min(50.0, 0.2 * deadline_ms)


def to_image(pixels: NDArray[np.uint8] | NDArray[np.uint16], format: PixelFormat) -> Image:
    """Converts raw pixels to uint8, (H, W, 3) BGR or (H, W) mono, for scorers, snapshots and `collect`.

    Formats above 8 bits are shifted by a fixed number of bits, so that the same light gives the same value in
    every image. The result may be `pixels` itself.
    """
    if format in _DEMOSAIC:
        return np.asarray(cv2.cvtColor(pixels, _DEMOSAIC[format]), dtype=np.uint8)
    if format is PixelFormat.RGB8:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), dtype=np.uint8)
    if format in _SHIFT:
        return (pixels >> _SHIFT[format]).astype(np.uint8)
    return pixels.astype(np.uint8, copy=False)


class ShotError(LineMonitorError):
    """A shot's pixels can't be inspected. The message is one line with the cause."""


def crop_shot(
    shot: Shot, roi: tuple[int, int, int, int] | None
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], PixelFormat]:
    """The region `(x, y, width, height)` of a shot's raw pixels, as a view, and their format.

    The shot must have pixels. Raises ShotError.
    """
    pixels = shot.pixels
    assert pixels is not None
    format = PixelFormat.__members__.get(shot.pixel_format)
    if format is None:
        known = ", ".join(PixelFormat.__members__)
        raise ShotError(
            f"pixel format {shot.pixel_format} is not supported: set the camera to one of {known}"
        )
    if roi is None:
        return pixels, format
    x, y, width, height = roi
    rows, columns = pixels.shape[:2]
    if x + width > columns or y + height > rows:
        raise ShotError(f"roi {list(roi)} reaches outside the {columns}x{rows} image")
    if format.is_bayer and (x % 2 or y % 2):
        raise ShotError(f"roi {list(roi)} must start at even x and y for {format.name}")
    return pixels[y : y + height, x : x + width], format


def shot_to_image(shot: Shot, roi: tuple[int, int, int, int] | None) -> Image:
    """The image that the scorer gets for a shot: its region of interest, converted by `to_image`. Raises
    ShotError."""
    return to_image(*crop_shot(shot, roi))
