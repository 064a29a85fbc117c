"""Camera drivers: `drivers.open(source)` chooses the driver by the scheme of the source's URL.

The package knows nothing of the use of the images. A driver's own dependencies are imported only when it is
used, so that a line without GigE cameras needs no GigE packages.
"""

from __future__ import annotations

import time

from drivers.camera import Camera, CameraError, CameraLost, Shot, SourceEnded
from drivers.pace import Clock, Sleep
from drivers.progress import Progress
from drivers.source import redacted, scheme_of

__all__ = ["Camera", "CameraError", "CameraLost", "Shot", "SourceEnded", "open", "place", "redacted"]


def open(
    source: str,
    clock: Clock = time.monotonic_ns,
    sleep: Sleep = time.sleep,
    progress: Progress | None = None,
) -> Camera:
    """The camera of the source. Its URL is checked, but it is not yet connected. Raises CameraError.

    `clock` returns CLOCK_MONOTONIC nanoseconds. Tests pass their own `clock` and `sleep`. A source of stored
    images begins after what `progress` says was given, or at its first image.
    """
    match scheme_of(source):
        case "simulated":
            from drivers.simulated import SimulatedCamera

            return SimulatedCamera(source, clock, sleep, progress)
        case "folder":
            from drivers.folder import FolderCamera

            return FolderCamera(source, clock, sleep, progress)
        case "file":
            from drivers.file import FileCamera

            return FileCamera(source, clock, sleep, progress)
        case "rtsp" | "rtsps":
            from drivers.rtsp import RtspCamera

            return RtspCamera(source, clock)
        case "gige":
            from drivers.gige import GigeCamera

            return GigeCamera(source, clock)
    raise CameraError(
        f"source {redacted(source)}: unknown kind of camera; use rtsp:// gige:// file:// folder:// or simulated://"
    )


def place(camera: Camera) -> str | None:
    """What an open camera reads on this machine, as a resolved path; None for cameras on a network."""
    return getattr(camera, "place", None)
