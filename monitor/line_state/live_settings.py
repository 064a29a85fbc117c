"""The settings that a running line takes over without a restart, on the board: deadlines and the log's level.

It knows nothing of files: the supervisor reads the settings anew and writes these here, and the workers read
them. All other settings a worker gets once, at its start.
"""

from __future__ import annotations

from monitor.line_state.board import Board, Field
from monitor.line_state.worker_process import SUPERVISOR, capture_name
from monitor.settings import CameraSettings, LogLevel, LogSettings, Settings

_HALF = 32
CAMERA_KEYS = ("deadline_ms", "actuate_ms")
"""The settings of a camera that a running line takes over."""


def write_live_settings(board: Board, settings: Settings) -> None:
    """Writes these settings for all workers."""
    for camera in settings.camera:
        # Both times are in one word: a frame must never get one of before and one of after a change.
        board.write(
            capture_name(camera.name), Field.CAMERA_TIMES, camera.deadline_ms << _HALF | camera.actuate_ms
        )
    board.write(SUPERVISOR, Field.LOG_LEVEL, settings.log.level.number)
    board.write(SUPERVISOR, Field.RELOADS, board.read(SUPERVISOR, Field.RELOADS) + 1)


def read_camera(board: Board, camera: CameraSettings) -> CameraSettings:
    """The camera's settings with the times on the board; unchanged where the board has none."""
    times = board.read(capture_name(camera.name), Field.CAMERA_TIMES)
    deadline_ms, actuate_ms = times >> _HALF, times & (1 << _HALF) - 1
    if not times or (deadline_ms, actuate_ms) == (camera.deadline_ms, camera.actuate_ms):
        return camera
    return camera.model_copy(update={"deadline_ms": deadline_ms, "actuate_ms": actuate_ms})


def read_live_settings(board: Board, settings: Settings) -> Settings:
    """The settings with what the board has of them."""
    number = board.read(SUPERVISOR, Field.LOG_LEVEL)
    level = next((level for level in LogLevel if level.number == number), settings.log.level)
    cameras = tuple(read_camera(board, camera) for camera in settings.camera)
    return settings.model_copy(update={"camera": cameras, "log": LogSettings(level=level)})
