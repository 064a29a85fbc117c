"""Which device a source names, so that two sources of one device are found before either is opened.

It connects to nothing, and knows nothing of why a device is used twice.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from drivers.camera import CameraError
from drivers.source import Options, scheme_of

_RTSP_PORTS = {"rtsp": 554, "rtsps": 322}
_RTSP_OPTIONS = ("", "transport", "clock")
"""The options of this program, which the camera never sees, and an empty one."""


def is_exclusive(source: str) -> bool:
    """Whether the device serves one program at a time."""
    return scheme_of(source) == "gige"


def are_one_device(one: str, other: str) -> bool:
    """Whether two sources name one device."""
    device = find_device(one)
    return device is not None and device == find_device(other)


def find_device(source: str) -> tuple[str, str] | None:
    """The device's kind and name, the same for every source of the device; None where the source has none or
    can't be read.

    Options, user and password do not count, nor does the case of letters but in paths of files. A GigE Vision
    camera that one source names by its id and another by its address is found only in the network.
    """
    scheme = scheme_of(source)
    try:
        if scheme == "gige":
            return scheme, Options(source).host.casefold()
        if scheme in ("folder", "file"):
            return scheme, os.path.realpath(Options(source).path)
        if scheme in _RTSP_PORTS:
            return "rtsp", _find_stream(source, _RTSP_PORTS[scheme])
    except (CameraError, ValueError, OSError):
        # The driver says why such a source can't be used.
        return None
    return None


def _find_stream(source: str, port: int) -> str:
    # A camera's user name, password or query may hold any character, so the host begins after the last @.
    parts = urlsplit("rtsp://" + source.partition("://")[2].rpartition("@")[2])
    query = [option for option in parts.query.split("&") if option.partition("=")[0] not in _RTSP_OPTIONS]
    host = (parts.hostname or "").rstrip(".")
    return f"{host}:{parts.port or port}{parts.path.rstrip('/')}?{'&'.join(sorted(query))}".casefold()
