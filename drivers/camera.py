"""What every camera family offers the capture worker, and nothing more.

This package knows nothing of `monitor`: a driver turns a source into shots with honest times. It must
never give an old image a new time stamp, never wait without a bound, and never print credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Shot:
    """One exposure as it left the camera.

    `pixels` is (H, W) or (H, W, 3), uint8 or uint16, in the layout that `pixel_format` names (PFNC:
    `BGR8`, `RGB8`, `Mono8`, `BayerRG8`, `Mono12`, ...; uint16 values are right-aligned). The array may be
    overwritten by the next `read`; who keeps it copies it. None means: a part was in front of the camera,
    but its image is unusable, and `fault` says why.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16] | None
    pixel_format: str
    captured_ns: int
    """CLOCK_MONOTONIC nanoseconds at which the image reached this machine; for a shot that waited in a
    buffer, the time at which it would have arrived without the wait."""
    device_ns: int | None = None
    """The device's own time stamp in nanoseconds of its own clock, if it has one."""
    device_frame: int | None = None
    """The device's own count of exposures from its stream's start, unwrapped; for files, the index of the
    image in the stream (it goes on counting over loops)."""
    missed: int = 0
    """Exposures the device made since the previous shot that never reached this machine."""
    fault: str | None = None


class CameraError(Exception):
    """The source can't be used; the message is one line for a person: what is wrong and the fix."""


class CameraLost(CameraError):
    """The camera was there and is gone: close it, and open it anew later."""


class SourceEnded(Exception):
    """A finite source (a clip, a folder without loop) has no more shots. Opening it anew would repeat
    parts, so nobody should."""


class Camera(Protocol):
    """A source of shots. `open` and `read` block, but never longer than they say."""

    def open(self) -> None:
        """Connects and starts the stream, within 10 s. Raises CameraError."""

    def read(self, timeout_s: float) -> Shot | None:
        """The next shot, or None when none came within `timeout_s` and the camera is still known to be
        there (a triggered camera is silent when idle). Raises CameraLost, SourceEnded."""

    def close(self) -> None:
        """Gives everything back; may be called at any time, also twice. Never raises."""
