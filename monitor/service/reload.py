"""What a running line takes over from settings that were read anew, and what needs a restart.

It knows nothing of files, signals or processes: it compares two sets of settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.journal.settings_changes import flatten_settings
from monitor.line_state.live_settings import CAMERA_KEYS
from monitor.settings import CameraSettings, Settings


@dataclass(frozen=True, slots=True)
class Reload:
    """The result of reading the settings anew."""

    settings: Settings
    """The settings of the running line from now on."""
    changed: tuple[str, ...]
    """What has changed, one text each: `camera top: deadline_ms 250 -> 400`."""
    needs_restart: tuple[str, ...]
    """The settings that differ and count only after a restart, by their paths such as `mqtt.port`. Values are
    left out, since some are secret."""

    def lines(self) -> list[str]:
        """What the log says of it."""
        said = [f"settings reloaded: {one}" for one in self.changed]
        if self.needs_restart:
            said.append(f"settings reloaded: {describe_restart(self.needs_restart)}")
        return said or ["settings reloaded: nothing that the line uses has changed"]


def describe_restart(paths: tuple[str, ...]) -> str:
    """One line that names the settings and the fix."""
    return (
        f"{', '.join(paths)} can't be changed while the line runs: restart the service "
        "(systemctl restart line-monitor)"
    )


def compare_settings(before: Settings, after: Settings) -> Reload:
    """What follows for a running line with the settings `before` from the settings `after` of its file."""
    fresh = {camera.name: camera for camera in after.camera}
    cameras, changed = [], []
    for camera in before.camera:
        taken, said = _take_over(camera, fresh.get(camera.name, camera))
        cameras.append(taken)
        changed += said
    if before.log != after.log:
        changed.append(f"log.level {before.log.level.value} -> {after.log.level.value}")
    settings = before.model_copy(update={"camera": tuple(cameras), "log": after.log})
    return Reload(settings, tuple(changed), _find_differences(settings, after))


def _take_over(camera: CameraSettings, fresh: CameraSettings) -> tuple[CameraSettings, list[str]]:
    """The camera's settings with the times of `fresh`, and what has changed."""
    update = {key: getattr(fresh, key) for key in CAMERA_KEYS if getattr(fresh, key) != getattr(camera, key)}
    said = [
        f"camera {camera.name}: {key} {getattr(camera, key)} -> {value}, from the next frame on"
        for key, value in update.items()
    ]
    return camera.model_copy(update=update), said


def _find_differences(running: Settings, after: Settings) -> tuple[str, ...]:
    """The paths of the settings that differ. A camera that only one of both has is one path."""
    one, other = flatten_settings(running), flatten_settings(after)
    names = {camera.name for camera in running.camera} ^ {camera.name for camera in after.camera}
    found = {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    whole = {f"camera.{name}" for name in names}
    rest = {path for path in found if not any(path.startswith(f"{camera}.") for camera in whole)}
    return tuple(sorted(whole | {path.removesuffix(".secrets") for path in rest}))
