"""Network cameras:
`rtsp://[user:password@]host[:port]/path[?query][&transport=tcp|udp][&clock=stamps|arrival]`, also `rtsps://`.

`transport` (default: tcp) and `clock` (default: stamps) are this driver's own options and are removed from
the URL. The rest of the query reaches the camera unchanged.

Images are read in the caller's thread. While the caller is busy, images wait in the socket; they are then
read in order, with the times of the stream's stamps, at the decoder's speed. A separate thread that drops
images to stay current would lose parts without a report. RTSP does not number its images, so images that the
network or the camera lost are not counted: `missed` is always 0. Use GigE Vision where every part counts.

`clock=stamps` needs time stamps that tell how far exposures are apart; `stream_clock.py` has the rule and its
limits. Images of a stream without such stamps are `undated`, unless a person chose `clock=arrival`.

FFmpeg recognises the end of an H.264 or H.265 image only when the next image begins, so it delivers each
image one frame period after its last byte. This delay comes before `captured_ns`, like exposure, encoding and
network; the timing of the gate must allow for it. OpenCV does not hand out the camera's RTCP reports.
"""

from __future__ import annotations

import difflib
import math
import resource
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from drivers import credentials
from drivers.arrival_clock import ArrivalClock
from drivers.camera import CameraError, CameraLost, Shot
from drivers.ffmpeg import OPEN_TIMEOUT_S, READ_TIMEOUT_S, open_capture, quiet
from drivers.pace import Clock
from drivers.rtsp_trouble import find_port, find_trouble
from drivers.source import redacted
from drivers.stream_clock import StreamClock
from drivers.stream_socket import count_waiting, find_connection, is_at_rest, list_sockets

_WINDOW_S = 120.0
_SETTLE_S = 4.0
_OPTIONS = {"transport": ("tcp", "udp"), "clock": ("stamps", "arrival")}
"""This driver's own options: the allowed values, the default first."""
_SLOW = (
    f"it sends no image within {READ_TIMEOUT_S:g} s: set its frame rate to at least one image in "
    f"{READ_TIMEOUT_S - 1:g} s and its key frame (I-frame) interval to 1 s"
)


class RtspCamera:
    """Implements `Camera`. `device_ns` is the stream's presentation time.

    `read` ignores `timeout_s` and waits up to READ_TIMEOUT_S, because FFmpeg can't be interrupted. It never
    returns None: a live stream without an image for that long is lost.
    """

    def __init__(self, source: str, clock: Clock = time.monotonic_ns) -> None:
        self._url, self._transport, dated_by = _split(source)
        self._name = redacted(self._url)
        self._clock = clock
        self._new_stream: Callable[[], StreamClock | ArrivalClock] = (
            ArrivalClock if dated_by == "arrival" else lambda: StreamClock(_WINDOW_S)
        )
        self._has_stamps = dated_by != "arrival"
        self._stream = self._new_stream()
        self._capture: cv2.VideoCapture | None = None
        self._stalled = self._rested_once = False
        self._connection: int | None = None
        self._before: tuple[int, bool] | None = None
        """When the last image arrived, and whether its reader had to wait for it."""

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
        began_ns = self._clock()
        sockets = list_sockets()
        self._capture = open_capture(self._url, options)
        self._connection = find_connection(sockets, find_port(self._url))
        if self._capture is None:
            raise CameraError(f"no stream from {self._name}: {self._explain(self._clock() - began_ns)}")
        self._stalled = self._rested_once = False
        self._before = None
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
        rested = self._has_rested()
        grabbed, waited = (False, True) if self._stalled else _grab(capture)
        if not grabbed:
            raise CameraLost(
                f"no image from {self._name}: the stream ended or stalled for {READ_TIMEOUT_S:g} s"
            )
        arrival_ns = self._clock()
        # After its timeout FFmpeg delivers the image that it held back. No further image follows.
        self._stalled = arrival_ns - began_ns > 0.95e9 * READ_TIMEOUT_S
        stamp_ns = _stamp(capture)
        captured_ns = self._stream.captured(stamp_ns, arrival_ns, waited, rested)
        self._before = (arrival_ns, waited)
        if self._stream.stuck(arrival_ns):
            raise CameraLost(self._describe_stuck())
        got, pixels = capture.retrieve()
        usable = got and pixels is not None and pixels.dtype == np.uint8
        return Shot(
            pixels=pixels.astype(np.uint8, copy=False) if usable else None,
            pixel_format="BGR8" if not usable or pixels.ndim == 3 else "Mono8",
            captured_ns=captured_ns,
            device_ns=stamp_ns if self._has_stamps else None,
            fault=None if usable else "image could not be decoded",
            undated=self._describe_undated(),
        )

    def close(self) -> None:
        capture, self._capture = self._capture, None
        self._connection = None
        if capture is not None:
            capture.release()

    def _settle(self, capture: cv2.VideoCapture) -> None:
        """Drop the images that the server or FFmpeg had stored, until images arrive at the stream's frame
        rate."""
        give_up_ns = self._clock() + round(_SETTLE_S * 1e9)
        live = 0
        self._stream, whole = self._new_stream(), self._new_stream()
        before: tuple[int, int] | None = None
        while live < 2:
            # The first image may come late, because decoding starts at a key frame.
            began_ns = self._clock()
            rested = self._has_rested()
            grabbed, waited = _grab(capture)
            arrival_ns = self._clock()
            # After its timeout FFmpeg delivers the image that it held back.
            if arrival_ns - began_ns > 0.95e9 * READ_TIMEOUT_S and (grabbed or arrival_ns > give_up_ns):
                raise CameraError(f"no stream from {self._name}: {_SLOW}")
            if grabbed:
                stamp_ns = _stamp(capture)
                if before is not None:
                    between, played = arrival_ns - before[0], (stamp_ns or 0) - before[1]
                    live = live + 1 if 2 * between >= played else 0
                    if not live:
                        self._stream = self._new_stream()
                before = (arrival_ns, stamp_ns or 0)
                self._stream.captured(stamp_ns, arrival_ns, waited, rested)
                whole.captured(stamp_ns, arrival_ns, waited, rested)
                self._before = (arrival_ns, waited)
            elif before is not None:
                raise CameraError(
                    f"the stream from {self._name} ended while it started: check camera and network"
                )
            if arrival_ns > give_up_ns and live == 0:
                if waited and (whole.undated or not self._has_stamps):
                    # Such stamps can't show whether images are live.
                    self._stream = whole
                    return
                raise CameraError(
                    f"{self._name} answers, but sends no live images: is it busy or starting? If its time "
                    "stamps jump, add the option clock=arrival to the source"
                )

    def _has_rested(self) -> bool:
        """Whether the network is seen at rest after the last image. A camera that sends by UDP holds nothing
        back."""
        if self._transport == "udp":
            self._rested_once = True
            return True
        usual_ns = self._stream.usual_ns
        if self._connection is None or self._before is None or not self._before[1] or usual_ns is None:
            return False
        waiting = partial(count_waiting, self._connection)
        rested = is_at_rest(waiting, self._before[0], usual_ns, self._clock, time.sleep)
        self._rested_once = self._rested_once or rested
        return rested

    def _explain(self, took_ns: int) -> str:
        """Why FFmpeg did not get the stream, with the fix."""
        if took_ns > 1.2e9 * OPEN_TIMEOUT_S:
            # A look-up of the host name has no time limit, so it must not be repeated.
            return (
                "no answer in time: check the host name and the name service (DNS), or write the IP address"
            )
        if trouble := find_trouble(self._url, self._transport):
            return trouble
        if took_ns < 0.95e9 * OPEN_TIMEOUT_S:
            return "its video can't be decoded: set the camera to H.264, H.265 or MJPEG"
        if self._transport == "udp":
            return "no image arrives by UDP: let the firewall pass it, or remove the option transport=udp"
        return _SLOW

    def _describe_stuck(self) -> str:
        late = f"images from {self._name} stay {self._stream.lag_s():.1f} s late"
        if self._rested_once:
            return f"{late}, as in a network that is too slow for them: connecting again"
        return (
            f"{late}: either the network is too slow for them, or the camera's clock runs slowly (its "
            "packets leave the network no rest, so that the driver can't tell): connecting again. If the "
            "network is fast enough, add the option clock=arrival to the source"
        )

    def _describe_undated(self) -> str | None:
        if (why := self._stream.undated) is None:
            return None
        return (
            f"the times of images from {self._name} can't be told, since {why}: mend the camera's clock "
            "(NTP) or firmware, or add the option clock=arrival to the source"
        )


def _grab(capture: cv2.VideoCapture) -> tuple[bool, bool]:
    """Grab the next image. Returns whether there is one, and whether the thread slept until it came: if it
    did not, the image lay in this machine's buffer."""
    sleeps = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    with quiet():
        grabbed = capture.grab()
    return grabbed, resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw > sleeps


def _stamp(capture: cv2.VideoCapture) -> int | None:
    milliseconds = float(capture.get(cv2.CAP_PROP_POS_MSEC))
    return round(milliseconds * 1e6) if math.isfinite(milliseconds) and milliseconds >= 0 else None


def _find_mistyped(name: str, value: str) -> str:
    """This driver's option whose name is nearly that one and which has such a value; else empty."""
    close = difflib.get_close_matches(name.lower(), _OPTIONS, n=1, cutoff=0.7)
    return close[0] if close and value.lower() in _OPTIONS[close[0]] else ""


def _split(source: str) -> tuple[str, str, str]:
    """The URL for the camera, and the values of `transport` and `clock`.

    The URL is as it was typed, but for the removed options and for escapes in user and password. Options
    stand after the last `?`, since a password may hold one.
    """
    scheme, separator, rest = source.partition("://")
    # FFmpeg takes no scheme in capitals.
    source = f"{scheme.lower()}{separator}{rest}"
    url, mark, query = source.rpartition("?") if "?" in source else (source, "", "")
    chosen = {name: allowed[0] for name, allowed in _OPTIONS.items()}
    camera_options = []
    options = query.split("&")
    for place, option in enumerate(options):
        name, _, value = option.partition("=")
        if name not in _OPTIONS:
            if meant := _find_mistyped(name, value):
                raise CameraError(
                    f"source {redacted(source)}: unknown option {name}; did you mean {meant}={value}?"
                )
            camera_options.append(option)
        elif value in _OPTIONS[name]:
            chosen[name] = value
        else:
            allowed = " or ".join(_OPTIONS[name])
            problem = f"option {name}={value!r} must be {allowed}"
            if any("@" in later for later in options[place:]):
                # What stands before an @ may be a part of the password, so it must not be shown.
                problem = f"option {name} must be {allowed}; write %3F for a ? in the password"
            raise CameraError(f"source {redacted(source)}: {problem}")
    if not url.partition("://")[2].strip("/"):
        raise CameraError(f"source {redacted(source)}: no address; use rtsp://user:password@host/path")
    rest = "&".join(camera_options)
    try:
        escaped = credentials.escape(url + mark + rest if rest else url)
    except credentials.AmbiguousCredentials as error:
        raise CameraError(f"source {redacted(source)}: {error}") from None
    return escaped, chosen["transport"], chosen["clock"]
