"""Whether the images of a network camera can be dated, for `line-monitor check`.

It knows nothing of how they are dated: the driver says of each image why it can't be.
"""

from __future__ import annotations

import time

from drivers.camera import Camera, Shot
from drivers.source import scheme_of

_WATCHED_S = 4.0
"""A driver needs 3 s of images to see that time stamps run at a wrong rate."""


def find_problem(source: str, camera: Camera, shot: Shot) -> str | None:
    """Why the images of the open camera can't be dated; None if they can. `shot` is its first image.

    Reads a network camera for 4 s, other cameras not at all. Raises CameraError.
    """
    if scheme_of(source) not in ("rtsp", "rtsps"):
        return shot.undated
    until = time.monotonic() + _WATCHED_S
    why = shot.undated
    while why is None and time.monotonic() < until:
        following = camera.read(1.0)
        why = following.undated if following is not None else None
    return why
