"""Files of a line that lie where its systemd service can't see them, for `check`.

It opens no file. A person who runs `check` in a terminal sees these places, and the service does not: the
unit has its own empty `/tmp` and `/var/tmp` (`PrivateTmp=`) and no home folders (`ProtectHome=`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drivers.camera import CameraError
from drivers.source import Options, scheme_of
from monitor.commands.finding import Finding, Level
from monitor.settings import Settings

_OWN = "it has an empty folder of its own there"
_NONE = "it may not look there"
_HIDDEN = {"/tmp": _OWN, "/var/tmp": _OWN, "/home": _NONE, "/root": _NONE, "/run/user": _NONE}


def find_hidden(settings: Settings) -> Iterator[Finding]:
    """A warning for each folder and file of the settings that the service can't see."""
    for key, path in _name_paths(settings):
        real = path.resolve()
        for place, why in _HIDDEN.items():
            if real.is_relative_to(place):
                target = "" if real == path else f", which is {real}"
                yield Finding(
                    Level.WARN,
                    "paths",
                    f"{key}: {path}{target} is hidden from the systemd service, since {why}: move it, as to "
                    "/srv, or start the line by hand (line-monitor run)",
                )


def _name_paths(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "line.data", settings.line.data
    for camera in settings.camera:
        if scheme_of(camera.source) in ("folder", "file"):
            try:
                yield f"camera {camera.name}", Options(camera.source).find_path()
            except CameraError:
                continue  # the camera's own finding says it
    for key in ("ca_file", "cert_file", "key_file"):
        if (file := getattr(settings.mqtt, key)) is not None:
            yield f"mqtt.{key}", file
