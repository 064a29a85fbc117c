"""Saves a camera's frames as image files for training: the same images as the scorer gets.

It knows nothing of recipes. It opens the camera itself, so it can't run while the line uses the camera.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

import drivers
from drivers.camera import Camera, Shot, SourceEnded
from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.line_state.frame import ShotError, shot_to_image
from monitor.settings import CameraSettings
from monitor.system.atomic_file import write_whole
from monitor.verdict import rfc3339

_LONGEST_SILENCE_S = 10.0
_FRAMES_A_REPORT = 50


class CollectError(LineMonitorError):
    """Frames can't be read or saved. The message is one line with the reason and the fix."""


@dataclass
class _Faults:
    """The unusable frames: how many, and what was wrong with the first."""

    count: int = 0
    first: str = ""

    def add(self, fault: str | None) -> None:
        self.count += 1
        self.first = self.first or fault or "no reason given"

    def explain(self) -> str:
        return f"; {self.count} unusable frames, the first: {self.first}" if self.count else ""


def collect(camera: CameraSettings, count: int, to: Path, say: Callable[[str], None]) -> None:
    """Save `count` frames as lossless PNG files in the folder `to`, named by time and number.

    Each image is cut to the camera's region of interest. Raises CameraError, CollectError; files that were
    saved before an error stay.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CollectError(f"can't make {to}: {error.strerror}") from error
    driver = drivers.open(camera.source)
    driver.open()
    try:
        if place := drivers.place(driver):
            say(f"camera {camera.name!r} reads {place}")
        faults = _save_frames(driver, camera, count, to, say)
    finally:
        driver.close()
    if faults.count:
        say(f"{faults.count} unusable frames were left out; the first: {faults.first}")


def _save_frames(
    driver: Camera, camera: CameraSettings, count: int, to: Path, say: Callable[[str], None]
) -> _Faults:
    """Save frames of the open camera. Returns what is known of the unusable ones, which are left out."""
    saved, faults = 0, _Faults()
    started = rfc3339(time.time_ns())
    last_usable = time.monotonic()
    while saved < count:
        try:
            shot = driver.read(1.0)
        except SourceEnded:
            raise CollectError(
                f"camera {camera.name!r}: the source ended after {saved} of {count} frames; "
                f"these are saved in {to}{faults.explain()}"
            ) from None
        if shot is None or shot.pixels is None:
            if shot is not None:
                faults.add(shot.fault)
            if time.monotonic() - last_usable > _LONGEST_SILENCE_S:
                raise CollectError(
                    f"camera {camera.name!r}: no usable frame for {_LONGEST_SILENCE_S:.0f} s "
                    f"({saved} of {count} saved)" + (faults.explain() or ": is the camera triggered?")
                )
            continue
        last_usable = time.monotonic()
        saved += 1
        _save_shot(shot, camera, to / file_name(started, camera.name, saved))
        if saved % _FRAMES_A_REPORT == 0 or saved == count:
            say(f"{saved} of {count} frames saved to {to}")
    return faults


def _save_shot(shot: Shot, camera: CameraSettings, file: Path) -> None:
    try:
        image = shot_to_image(shot, camera.roi)
    except ShotError as error:
        raise CollectError(f"camera {camera.name!r}: {error}") from None
    save_image(image, file)


def save_image(image: Image, file: Path) -> None:
    """Save an image, uint8 (H, W, 3) BGR or (H, W), as a lossless PNG file. Raises CollectError."""
    try:
        write_whole(file, encode_image(image), mode=None)
    except OSError as error:
        raise CollectError(f"can't write {file}: {error.strerror}") from error


def encode_image(image: Image) -> bytes:
    """The content of a lossless PNG file of an image, uint8 (H, W, 3) BGR or (H, W)."""
    return cv2.imencode(".png", image)[1].tobytes()


def file_name(utc: str, camera: str, number: int) -> str:
    """The name of a saved frame; `utc` is its RFC 3339 time. Names sort by time, then by number."""
    return f"{re.sub('[-:.]', '', utc)}_{camera}_{number:06d}.png"
