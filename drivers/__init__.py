"""Camera drivers: `drivers.open(source)` picks the family by the source's scheme.

Knows nothing of what is done with the images. A family's own dependencies are imported only when it is
used, so that a line without GigE cameras needs no GigE packages.
"""

from __future__ import annotations

import time

from drivers.camera import Camera, CameraError, CameraLost, Shot, SourceEnded
from drivers.pace import Clock, Sleep
from drivers.source import redacted, scheme_of

__all__ = ["Camera", "CameraError", "CameraLost", "Shot", "SourceEnded", "open", "redacted"]


def open(source: str, clock: Clock = time.monotonic_ns, sleep: Sleep = time.sleep) -> Camera:
    """The camera that the source names, checked but not yet opened. Raises CameraError.

    `clock` gives CLOCK_MONOTONIC nanoseconds; both are arguments for the sake of tests.
    """
    match scheme_of(source):
        case "simulated":
            from drivers.simulated import SimulatedCamera

            return SimulatedCamera(source, clock, sleep)
        case "folder":
            from drivers.folder import FolderCamera

            return FolderCamera(source, clock, sleep)
        case "file":
            from drivers.file import FileCamera

            return FileCamera(source, clock, sleep)
        case "rtsp" | "rtsps":
            from drivers.rtsp import RtspCamera

            return RtspCamera(source, clock)
        case "gige":
            from drivers.gige import GigeCamera

            return GigeCamera(source, clock)
    raise CameraError(
        f"source {redacted(source)}: no such kind of camera; use rtsp:// gige:// file:// folder:// or simulated://"
    )
