"""Saves a camera's frames as the scorer would get them, for training. Never touches a running line."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2

import drivers
from drivers.camera import SourceEnded
from monitor.commands.arguments import load_settings, positive_integer
from monitor.errors import LineMonitorError
from monitor.line_state.frame import PixelFormat, crop, viewable
from monitor.settings import CameraSettings
from monitor.system.atomic_file import write_whole
from monitor.verdict import rfc3339

_PATIENCE_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("camera", metavar="CAMERA", help="a camera's name in the settings")
    parser.add_argument("--count", type=positive_integer, required=True, metavar="N", help="how many frames")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="where they are saved (PNG)")


def run(options: argparse.Namespace) -> int:
    camera = load_settings(options).camera_named(options.camera)
    collect(camera, options.count, options.to, say=print)
    return 0


class CollectError(LineMonitorError):
    """Frames can't be had or saved; one line says why and the fix."""


def collect(camera: CameraSettings, count: int, to: Path, say: Callable[[str], None]) -> None:
    """Saves `count` frames as lossless PNG, region of interest applied, named by time and number.

    Raises CameraError, CollectError; what was saved until then stays.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CollectError(f"can't make {to}: {error.strerror}") from error
    driver = drivers.open(camera.source)
    driver.open()
    saved = bad = 0
    stamp = rfc3339(time.time_ns()).replace(":", "").replace("-", "").replace(".", "")
    last_good = time.monotonic()
    try:
        while saved < count:
            shot = driver.read(1.0)
            if shot is None or shot.pixels is None:
                bad += shot is not None
                if time.monotonic() - last_good > _PATIENCE_S:
                    raise CollectError(
                        f"camera {camera.name!r}: no usable frame for {_PATIENCE_S:.0f} s "
                        f"({saved} of {count} saved): is it triggered?"
                    )
                continue
            last_good = time.monotonic()
            try:
                format = PixelFormat[shot.pixel_format]
                image = viewable(crop(shot.pixels, format, camera.roi), format)
            except KeyError:
                raise CollectError(f"pixel format {shot.pixel_format} is not supported") from None
            except ValueError as error:
                raise CollectError(f"camera {camera.name!r}: {error}") from None
            saved += 1
            _save(to / f"{stamp}_{camera.name}_{saved:06d}.png", cv2.imencode(".png", image)[1].tobytes())
            if saved % 50 == 0 or saved == count:
                say(f"{saved} of {count} frames saved to {to}")
    except SourceEnded:
        raise CollectError(
            f"camera {camera.name!r}: the source ended after {saved} of {count} frames, all saved to {to}"
        ) from None
    finally:
        driver.close()
    if bad:
        say(f"{bad} unusable frames were left out")


def _save(file: Path, content: bytes) -> None:
    try:
        write_whole(file, content)
    except OSError as error:
        raise CollectError(f"can't write {file}: {error.strerror}") from error
