"""Network cameras: `rtsp://[user:password@]host[:port]/path[?query][&transport=tcp|udp]`, also `rtsps://`.

`transport` is this driver's own option (default tcp) and is taken out; the rest of the query is the
camera's and reaches it unchanged.

Reads in the caller's thread: a reader that is busy for a moment finds the images in the socket, in order
and dated by the stream's stamps, and catches up at the decoder's speed. A thread that throws images away
to stay current would lose parts in silence. RTSP does not number its images, so what the network or the
camera lost is not counted: `missed` stays 0. Use GigE Vision where every part counts.

FFmpeg knows that an H.264 or H.265 image is whole only when the next one begins, so it hands each out one
frame period after its last byte came. Like exposure, encoding and the network, that lies before
`captured_ns`, which is when this machine had the image in its hands; a gate's timing must allow for it.
"""

from __future__ import annotations

import math
import time

import cv2
import numpy as np

from drivers.camera import CameraError, CameraLost, Shot
from drivers.ffmpeg import READ_TIMEOUT_S, open_capture
from drivers.pace import Clock
from drivers.source import redacted
from drivers.stream_clock import StreamClock

_WINDOW_S = 30.0
_SETTLE_S = 4.0


class RtspCamera:
    """Implements `Camera`; `device_ns` is the stream's presentation time.

    `read` waits for an image at most READ_TIMEOUT_S whatever `timeout_s` says, because FFmpeg can't be
    interrupted in between, and never returns None: a live stream that is silent for so long is lost.
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
            # Stamps of a single medium come straight from the camera; FFmpeg shifts them to match audio.
            "allowed_media_types": "video",
            # No guessing of the frame rate, which would hoard a second of images.
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
        # At its timeout FFmpeg hands out the image that it held back; nothing will follow.
        self._stalled = arrival_ns - began_ns > 0.95e9 * READ_TIMEOUT_S
        stamp_ns = _stamp(capture)
        captured_ns = self._stream.captured(stamp_ns, arrival_ns)
        if self._stream.stuck(arrival_ns):
            raise CameraLost(
                f"images from {self._name} stay {self._stream.lag_s():.1f} s behind: connecting anew"
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
        """Throws away what the server or FFmpeg had stored, until images come as fast as they are made."""
        give_up_ns = self._clock() + round(_SETTLE_S * 1e9)
        live = 0
        before: tuple[int, int] | None = None
        while live < 2:
            # The first image may take a while: decoding starts at a key frame.
            grabbed = capture.grab()
            arrival_ns = self._clock()
            if grabbed:
                stamp_ns = _stamp(capture) or 0
                if before is not None:
                    waited, played = arrival_ns - before[0], stamp_ns - before[1]
                    live = live + 1 if 2 * waited >= played else 0
                before = (arrival_ns, stamp_ns)
            elif before is not None:
                raise CameraError(f"the stream from {self._name} broke off while it started")
            if arrival_ns > give_up_ns and live == 0:
                raise CameraError(f"{self._name} answers, but sends no live images: is it busy or starting?")


def _stamp(capture: cv2.VideoCapture) -> int | None:
    milliseconds = float(capture.get(cv2.CAP_PROP_POS_MSEC))
    return round(milliseconds * 1e6) if math.isfinite(milliseconds) and milliseconds >= 0 else None


def _split(source: str) -> tuple[str, str]:
    """The URL for the camera, byte for byte without our own option, and the transport."""
    url, mark, query = source.partition("?")
    theirs, transport = [], "tcp"
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name != "transport":
            theirs.append(option)
        elif value in ("tcp", "udp"):
            transport = value
        else:
            raise CameraError(f"source {redacted(source)}: option transport={value!r} must be tcp or udp")
    if not url.partition("://")[2].strip("/"):
        raise CameraError(f"source {redacted(source)}: no address; use rtsp://user:password@host/path")
    rest = "&".join(theirs)
    return (url + mark + rest if rest else url), transport
