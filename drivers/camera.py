"""The interface of all cameras: `open`, `read`, `close`, one exposure at a time.

This package knows nothing of `monitor/`. On a frame's way it comes first: the capture worker calls `read`.

A driver must never give an old image a new time stamp, never wait without a time limit, and never print
credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Shot:
    """One exposure of a camera, or the place of one whose image is unusable.

    `pixels` is (H, W) or (H, W, 3), uint8 or uint16. `pixel_format` is the name of its layout in the GenICam
    Pixel Format Naming Convention (PFNC): `BGR8`, `RGB8`, `Mono8`, `BayerRG8`, `Mono12`, ...; uint16 values
    are right-aligned. The next `read` may overwrite the array: the caller copies what it keeps. `pixels` is
    None for an exposure whose image is unusable; `fault` is the reason.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16] | None
    pixel_format: str
    captured_ns: int
    """CLOCK_MONOTONIC nanoseconds at which the image reached this machine. For a shot that waited in a buffer
    it is the time of arrival without that wait."""
    device_ns: int | None = None
    """The device's own time stamp in nanoseconds of its own clock, if it has one."""
    device_frame: int | None = None
    """The device's own number of the exposure since the start of its stream, without wrap-around. For files
    it is the index of the image in the stream, which continues over loops."""
    missed: int = 0
    """Number of exposures between the previous shot and this one that never reached this machine."""
    fault: str | None = None
    undated: str | None = None
    """Why `captured_ns` can't be relied on, with the fix, although the pixels are usable. Such an image may
    be an old one, so it belongs to no part."""


class CameraError(Exception):
    """The source can't be used. The message is one line with the problem and the fix."""


class CameraLost(CameraError):
    """An open camera no longer delivers images. Close it, and open it again later."""


class SourceEnded(Exception):
    """A finite source (a clip, or a folder without loop) has no more shots. Opening it again would repeat
    parts, so the caller must not do that."""


class Camera(Protocol):
    """A source of shots. `open` and `read` block, each for a limited time."""

    def open(self) -> None:
        """Connect and start the stream, within 10 s. Raises CameraError."""

    def read(self, timeout_s: float) -> Shot | None:
        """The next shot. None when no shot came within `timeout_s` and the camera is known to be connected:
        a triggered camera sends nothing between parts. Raises CameraLost, SourceEnded."""

    def close(self) -> None:
        """Release everything. It may be called at any time, also twice. Never raises."""
