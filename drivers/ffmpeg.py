"""Opens a stream or a clip with OpenCV's FFmpeg, without log output and with limited waits.

FFmpeg's own log prints URLs with their passwords, so it is turned off. That works only if no other code in
the process used OpenCV's FFmpeg before. OpenCV reads some options only from environment variables, which are
restored afterwards.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 3.0

_ENVIRONMENT = threading.Lock()


def open_capture(url: str, options: dict[str, str]) -> cv2.VideoCapture | None:
    """An open capture, or None. `options` are FFmpeg's demuxer options.

    It has one decoder thread, because each further thread delays the output by one image.
    """
    joined = "|".join(f"{name};{value}" for name, value in options.items())
    with _environment(OPENCV_FFMPEG_CAPTURE_OPTIONS=joined, OPENCV_FFMPEG_LOGLEVEL="-8"):
        try:
            with quiet():
                capture = cv2.VideoCapture(
                    url,
                    cv2.CAP_FFMPEG,
                    [
                        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                        round(OPEN_TIMEOUT_S * 1000),
                        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                        round(READ_TIMEOUT_S * 1000),
                        cv2.CAP_PROP_N_THREADS,
                        1,
                    ],
                )
        except cv2.error:
            # The text of the error holds the URL, so it is dropped.
            return None
    if capture.isOpened():
        return capture
    capture.release()
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Turn OpenCV's warnings off, because the caller reports the failure."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    with _ENVIRONMENT:
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
