"""Network cameras: `rtsp://[user:password@]host[:port]/path[?query][&transport=tcp|udp]`, also `rtsps://`.

`transport` is this driver's own option (default: tcp) and is removed from the URL. The rest of the query
reaches the camera unchanged.

Images are read in the caller's thread. While the caller is busy, images wait in the socket; they are then
read in order, with the times of the stream's stamps, at the decoder's speed. A separate thread that drops
images to stay current would lose parts without a report. RTSP does not number its images, so images that the
network or the camera lost are not counted: `missed` is always 0. Use GigE Vision where every part counts.

FFmpeg recognises the end of an H.264 or H.265 image only when the next image begins, so it delivers each
image one frame period after its last byte. This delay comes before `captured_ns`, like exposure, encoding and
network; the timing of the gate must allow for it.
"""

from __future__ import annotations

import math
import time

import cv2
import numpy as np

from drivers import credentials
from drivers.camera import CameraError, CameraLost, Shot
from drivers.ffmpeg import READ_TIMEOUT_S, open_capture
from drivers.pace import Clock
from drivers.source import redacted
from drivers.stream_clock import StreamClock

_WINDOW_S = 30.0
_SETTLE_S = 4.0


class RtspCamera:
    """Implements `Camera`. `device_ns` is the stream's presentation time.

    `read` ignores `timeout_s` and waits up to READ_TIMEOUT_S, because FFmpeg can't be interrupted. It never
    returns None: a live stream without an image for that long is lost.
    """

    def __init__(self, source: str, clock: Clock = time.monotonic_ns) -> None:
        self._url, self._transport = _split(source)
        self._name = redacted(self._url)
        self._clock = clock
        self._stream = StreamClock(_WINDOW_S)
        self._capture: cv2.VideoCapture | None = None
        self._stalled = False

    def open(self) -> None:
        self.close()
        options = {
            "rtsp_transport": self._transport,
            # Without audio the time stamps are the camera's own; FFmpeg would shift them to match the audio.
            "allowed_media_types": "video",
            # FFmpeg must not measure the frame rate, since it would hold back one second of images for that.
            "probesize": "32",
            "analyzeduration": "0",
            "fflags": "discardcorrupt",
        }
        self._capture = open_capture(self._url, options)
        if self._capture is None:
            raise CameraError(
                f"no stream from {self._name}: check address, path, user, password, and that the camera is on"
            )
        self._stream = StreamClock(_WINDOW_S)
        self._stalled = False
        try:
            self._settle(self._capture)
        except CameraError:
            self.close()
            raise

    def read(self, timeout_s: float) -> Shot | None:
        capture = self._capture
        if capture is None:
            raise CameraError("the stream is not open: call open() before read()")
        began_ns = self._clock()
        if self._stalled or not capture.grab():
            raise CameraLost(
                f"no image from {self._name}: the stream ended or stalled for {READ_TIMEOUT_S:g} s"
            )
        arrival_ns = self._clock()
        # After its timeout FFmpeg delivers the image that it held back. No further image follows.
        self._stalled = arrival_ns - began_ns > 0.95e9 * READ_TIMEOUT_S
        stamp_ns = _stamp(capture)
        captured_ns = self._stream.captured(stamp_ns, arrival_ns)
        if self._stream.stuck(arrival_ns):
            raise CameraLost(
                f"images from {self._name} stay {self._stream.lag_s():.1f} s late: connecting again"
            )
        got, pixels = capture.retrieve()
        usable = got and pixels is not None and pixels.dtype == np.uint8
        return Shot(
            pixels=pixels.astype(np.uint8, copy=False) if usable else None,
            pixel_format="BGR8" if not usable or pixels.ndim == 3 else "Mono8",
            captured_ns=captured_ns,
            device_ns=stamp_ns,
            fault=None if usable else "image could not be decoded",
        )

    def close(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _settle(self, capture: cv2.VideoCapture) -> None:
        """Drop the images that the server or FFmpeg had stored, until images arrive at the stream's frame
        rate."""
        give_up_ns = self._clock() + round(_SETTLE_S * 1e9)
        live = 0
        before: tuple[int, int] | None = None
        while live < 2:
            # The first image may come late, because decoding starts at a key frame.
            grabbed = capture.grab()
            arrival_ns = self._clock()
            if grabbed:
                stamp_ns = _stamp(capture) or 0
                if before is not None:
                    waited, played = arrival_ns - before[0], stamp_ns - before[1]
                    live = live + 1 if 2 * waited >= played else 0
                before = (arrival_ns, stamp_ns)
            elif before is not None:
                raise CameraError(
                    f"the stream from {self._name} ended while it started: check camera and network"
                )
            if arrival_ns > give_up_ns and live == 0:
                raise CameraError(f"{self._name} answers, but sends no live images: is it busy or starting?")


def _stamp(capture: cv2.VideoCapture) -> int | None:
    milliseconds = float(capture.get(cv2.CAP_PROP_POS_MSEC))
    return round(milliseconds * 1e6) if math.isfinite(milliseconds) and milliseconds >= 0 else None


def _split(source: str) -> tuple[str, str]:
    """The URL for the camera and the value of `transport`.

    The URL is as it was typed, but for the removed option and for escapes in user and password. Options stand
    after the last `?`, since a password may hold one.
    """
    url, mark, query = source.rpartition("?") if "?" in source else (source, "", "")
    camera_options, transport = [], "tcp"
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name != "transport":
            camera_options.append(option)
        elif value in ("tcp", "udp"):
            transport = value
        else:
            raise CameraError(f"source {redacted(source)}: option transport={value!r} must be tcp or udp")
    if not url.partition("://")[2].strip("/"):
        raise CameraError(f"source {redacted(source)}: no address; use rtsp://user:password@host/path")
    rest = "&".join(camera_options)
    try:
        return credentials.escape(url + mark + rest if rest else url), transport
    except credentials.AmbiguousCredentials as error:
        raise CameraError(f"source {redacted(source)}: {error}") from None
