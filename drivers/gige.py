"""GigE Vision cameras through Aravis: `gige://<id, serial number or address>[?exposure_us=&gain=&...]`.

Options: `exposure_us`, `gain`, `fps`, `pixel_format` (a PFNC name), `packet_size` (bytes, default
negotiated), `trigger` = `free-run`, `software` (this driver triggers, `fps` times a second) or
`hardware[:Line1]`. What is not given stays as the camera is set.

Images lie in memory that Aravis writes into and numpy reads: nothing is copied. It must give every buffer
back, never hand out an incomplete image, and never take a silent triggered camera for a lost one.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from drivers.camera import CameraError, CameraLost, Shot
from drivers.pace import Clock, Pace, Sleep
from drivers.source import Options
from drivers.stream_clock import StreamClock

_BUFFERS = 16
_WINDOW_S = 600.0
"""Both clocks are quartz: 20 ppm over ten idle minutes are 12 ms."""
_POLL_NS = 400_000_000
_SILENT_NS = 3_000_000_000
_CONTROL_PRIVILEGE = 0x0A00
"""The register that names who controls the camera (GigE Vision, bootstrap registers); 0 is nobody."""

_INSTALL = (
    "GigE Vision needs the extra: pip install line-monitor[gige] and the Debian package gir1.2-aravis-0.8"
)


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    dtype: str
    channels: int = 1


# By PFNC code, which is the same for all vendors; cameras differ in how they spell the names.
_FORMATS = {
    0x01080001: _Format("Mono8", "u1"),
    0x01100003: _Format("Mono10", "<u2"),
    0x01100005: _Format("Mono12", "<u2"),
    0x01100007: _Format("Mono16", "<u2"),
    0x01080008: _Format("BayerGR8", "u1"),
    0x01080009: _Format("BayerRG8", "u1"),
    0x0108000A: _Format("BayerGB8", "u1"),
    0x0108000B: _Format("BayerBG8", "u1"),
    0x02180014: _Format("RGB8", "u1", 3),
    0x02180015: _Format("BGR8", "u1", 3),
}


@dataclass(frozen=True, slots=True)
class Found:
    """A camera that answered on one of this machine's networks."""

    id: str
    vendor: str
    model: str
    serial: str
    address: str
    source: str
    """What to paste into the settings."""


def discover() -> list[Found]:
    """All GigE Vision cameras in reach, by id; takes about a second. Raises CameraError without Aravis."""
    aravis, _ = _aravis()
    aravis.update_device_list()
    found = []
    for index in range(aravis.get_n_devices()):
        if aravis.get_device_protocol(index) == "GigEVision":
            identity = aravis.get_device_id(index)
            found.append(
                Found(
                    identity,
                    aravis.get_device_vendor(index) or "",
                    aravis.get_device_model(index) or "",
                    aravis.get_device_serial_nbr(index) or "",
                    aravis.get_device_address(index) or "",
                    f"gige://{quote(identity, safe='')}",
                )
            )
    # A camera that two network interfaces reach answers twice.
    return sorted(dict.fromkeys(found), key=lambda camera: (camera.id, camera.address))


class FrameCounter:
    """Makes one steady count of a camera's frame ids.

    GigE Vision 1 counts in 16 bits and leaves 0 out; version 2 counts in 64 bits from 0 or 1. Nothing in
    the stream says which, so a step back from below 65536 is taken for the 16-bit wrap.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._cycle = 0xFFFF
        self._count = 0

    def count(self, frame_id: int) -> tuple[int, int]:
        """The index of the exposure from the first one on, and how many were lost before it."""
        if self._last is None:
            self._last = frame_id
            return 0, 0
        step = frame_id - self._last
        if step < 0 and self._last <= 0xFFFF:
            if frame_id == 0:
                self._cycle = 0x10000
            step += self._cycle
        if step < 0 or step > self._cycle // 2:
            # No gap is that large: the camera began to count anew. What was lost meanwhile is unknown.
            step = 1
        self._last = frame_id
        self._count += step
        return self._count, max(0, step - 1)


class GigeCamera:
    """Implements `Camera`. `read` takes up to a second longer than asked when the camera doesn't answer."""

    def __init__(self, source: str, clock: Clock = time.monotonic_ns, sleep: Sleep = time.sleep) -> None:
        options = Options(source)
        self._exposure_us = options.number("exposure_us", 0.1, 60e6)
        self._gain = options.number("gain", -100, 1000)
        self._fps = options.number("fps", 0.01, 10_000)
        self._pixel_format = options.text("pixel_format")
        self._packet_size = options.whole("packet_size", 220, 65_000)
        self._trigger = options.text("trigger")
        options.finish()
        self._wanted = options.host
        self._error = options.error
        if not self._wanted or options.path.strip("/"):
            raise options.error("name the camera by id, serial number or address: gige://<id>")
        if not re.fullmatch(r"free-run|software|hardware(:\w+)?", self._trigger or "free-run"):
            raise options.error(
                f"option trigger={self._trigger!r} must be free-run, software or hardware[:Line1]"
            )
        self._clock = clock
        self._sleep = sleep
        self._lost = threading.Event()
        self._address = ""
        self._camera: Any = None
        self._stream: Any = None
        self._held: Any = None
        self._pace: Pace | None = None
        self._free_runs = False
        self._restart()

    def open(self) -> None:
        self.close()
        aravis, glib = _aravis()
        self._address = self._resolve()
        try:
            self._camera = aravis.Camera.new(self._address)
            device = self._camera.get_device()
            if not device.is_controller():
                raise self._error(
                    "the camera is controlled by another program: close it; after a crash wait 3 s"
                )
            # Not a method of ours: that would tie camera and self in a circle that is never freed.
            self._lost = lost = threading.Event()
            device.connect("control-lost", lambda *_: lost.set())
            # A program that died left it sending to an address where nobody listens now; one that stands
            # still already may refuse.
            with contextlib.suppress(glib.Error):
                self._camera.stop_acquisition()
            self._configure(aravis, glib)
            self._start(aravis)
        except glib.Error as error:
            self.close()
            raise self._error(f"the camera refused to start: {error.message}") from None
        except CameraError:
            self.close()
            raise

    def read(self, timeout_s: float) -> Shot | None:
        if self._stream is None:
            raise CameraError("the GigE camera is not open: call open() before read()")
        self._give_back()
        if self._pace is not None:
            if not self._pace.wait(timeout_s):
                return None
            self._ask("software trigger", self._camera.software_trigger)
            self._pace.advance()
        aravis, _ = _aravis()
        buffer = self._stream.timeout_pop_buffer(max(0, round(timeout_s * 1e6)))
        arrival_ns = self._clock()
        if buffer is None:
            if self._lost.is_set():
                raise CameraLost(f"{self._wanted}: control of the camera was lost")
            self._check_alive(arrival_ns)
            return None
        self._held = buffer
        self._alive_ns = self._image_ns = arrival_ns
        status = buffer.get_status()
        stamp_ns = buffer.get_timestamp() or None
        index, missed = self._counter.count(buffer.get_frame_id())
        pixels, name, fault = None, "Mono8", None
        if status != aravis.BufferStatus.SUCCESS:
            fault = f"incomplete buffer ({status.value_nick})"
            # Its stamp may belong to the image before.
            stamp_ns = None
        else:
            pixels, name = self._view(buffer)
        return Shot(
            pixels=pixels,
            pixel_format=name,
            captured_ns=self._dates.captured(stamp_ns, arrival_ns),
            device_ns=stamp_ns,
            device_frame=index,
            missed=missed,
            fault=fault,
        )

    def close(self) -> None:
        if self._camera is None:
            return
        _, glib = _aravis()
        if self._stream is not None and not self._lost.is_set():
            try:
                self._camera.stop_acquisition()
            except glib.Error:
                # It is gone, and nothing can be asked of it.
                self._lost.set()
        last_references = [self._held, self._stream, self._camera]
        self._held = self._stream = self._camera = None
        if self._lost.is_set():
            # Aravis says goodbye to the camera when it frees these: seconds of retries with nobody there.
            threading.Thread(target=last_references.clear, name="gige-release", daemon=True).start()
        last_references = []

    def _restart(self) -> None:
        self._counter = FrameCounter()
        self._dates = StreamClock(_WINDOW_S)
        self._alive_ns = self._image_ns = self._clock()

    def _resolve(self) -> str:
        """The address of the one camera that is meant."""
        cameras = discover()
        wanted = self._wanted.casefold()
        matches = {
            camera.address
            for camera in cameras
            for name in (camera.id, camera.address, camera.serial, f"{camera.vendor}-{camera.serial}")
            if name.casefold() == wanted
        }
        if len(matches) > 1:
            addresses = " or ".join(sorted(matches))
            raise self._error(f"{len(matches)} cameras answer to this name: use an address, {addresses}")
        if matches:
            return matches.pop()
        if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", self._wanted):
            # Discovery is a broadcast, which routers don't pass on.
            return self._wanted
        there = ", ".join(camera.id for camera in cameras) or "none"
        raise self._error(f"no such camera found; there are: {there}. Check cable, power and subnet")

    def _configure(self, aravis: Any, glib: Any) -> None:
        camera = self._camera
        if self._pixel_format is not None:
            try:
                camera.set_pixel_format_from_string(self._pixel_format)
            except glib.Error:
                raise self._error(
                    f"option pixel_format={self._pixel_format!r}: the camera has {self._formats()}"
                ) from None
        if camera.get_pixel_format() not in _FORMATS:
            known = ", ".join(layout.name for layout in _FORMATS.values())
            raise self._error(
                f"pixel format {camera.get_pixel_format_as_string()} is not supported; set pixel_format "
                f"to one of {known}; the camera has {self._formats()}"
            )
        if self._exposure_us is not None:
            if camera.is_exposure_auto_available():
                camera.set_exposure_time_auto(aravis.Auto.OFF)
            camera.set_exposure_time(self._exposure_us)
        if self._gain is not None:
            if camera.is_gain_auto_available():
                camera.set_gain_auto(aravis.Auto.OFF)
            camera.set_gain(self._gain)
        if self._packet_size is not None:
            camera.gv_set_packet_size(self._packet_size)
        kind, _, line = (self._trigger or "").partition(":")
        if kind == "free-run":
            camera.clear_triggers()
        elif kind == "hardware":
            camera.set_trigger(line or "Line1")
        elif kind == "software":
            camera.set_trigger("Software")
        if self._fps is not None and kind in ("", "free-run"):
            camera.set_frame_rate(self._fps)
        self._pace = Pace(self._fps or 10.0, self._clock, self._sleep) if kind == "software" else None
        self._free_runs = kind == "free-run" or (not kind and self._triggers_are_off(glib))
        if camera.get_device().is_feature_available("AcquisitionMode"):
            camera.set_acquisition_mode(aravis.AcquisitionMode.CONTINUOUS)

    def _triggers_are_off(self, glib: Any) -> bool:
        """Whether images come unasked. A camera that does not tell counts as triggered: belts stand still."""
        device = self._camera.get_device()
        try:
            selected = device.get_string_feature_value("TriggerSelector")
            modes = []
            for trigger in self._camera.dup_available_triggers():
                device.set_string_feature_value("TriggerSelector", trigger)
                modes.append(device.get_string_feature_value("TriggerMode"))
            device.set_string_feature_value("TriggerSelector", selected)
        except glib.Error:
            return False
        return "On" not in modes

    def _formats(self) -> str:
        return ", ".join(self._camera.dup_available_pixel_formats_as_strings())

    def _start(self, aravis: Any) -> None:
        size = self._camera.get_payload()
        self._stream = self._camera.create_stream(None, None)
        for _ in range(_BUFFERS):
            array = np.zeros(size, np.uint8)
            buffer = aravis.Buffer.new(size, array.ctypes.data)
            # PyGObject keeps this as long as Aravis has the buffer: its receiver writes into the array.
            buffer.array = array
            self._stream.push_buffer(buffer)
        self._camera.start_acquisition()
        self._restart()

    def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._stream.push_buffer(held)

    def _view(self, buffer: Any) -> tuple[NDArray[np.uint8] | NDArray[np.uint16] | None, str]:
        """The buffer's image as an array on the buffer's own memory."""
        layout = _FORMATS[buffer.get_image_pixel_format()]
        width, height = buffer.get_image_width(), buffer.get_image_height()
        row = width * layout.channels * np.dtype(layout.dtype).itemsize
        stride = row + buffer.get_image_padding().x_padding
        lines = buffer.array[: height * stride].reshape(height, stride)[:, :row].view(layout.dtype)
        return (lines.reshape(height, width, 3) if layout.channels == 3 else lines), layout.name

    def _check_alive(self, now_ns: int) -> None:
        """Asks a silent camera, now and then, whether it is there and still ours."""
        if self._free_runs and now_ns - self._image_ns > max(_SILENT_NS, self._slow_ns()):
            raise CameraLost(
                f"{self._wanted} answers but sends no images: check firewall, packet_size and bandwidth"
            )
        if now_ns - self._alive_ns < _POLL_NS:
            return
        controlled = poll(self._address)
        if not controlled:
            self._lost.set()
            reason = "does not answer" if controlled is None else "forgot that we control it: it restarted"
            raise CameraLost(f"{self._wanted} {reason}")
        self._alive_ns = self._clock()

    def _slow_ns(self) -> int:
        rate = self._fps
        if rate is None and self._camera.is_frame_rate_available():
            rate = self._ask("frame rate", self._camera.get_frame_rate)
        return round(5e9 / rate) if rate else 0

    def _ask(self, what: str, question: Callable[[], Any]) -> Any:
        _, glib = _aravis()
        try:
            return question()
        except glib.Error as error:
            self._lost.set()
            raise CameraLost(f"{self._wanted} does not answer ({what}: {error.message})") from None


def poll(address: str, port: int = 3956) -> bool | None:
    """Whether somebody controls the camera at `address`; None when it doesn't answer within 0.9 s.

    Asked past Aravis, whose own retries take longer than a lost camera may go unnoticed.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(0.3)
        link.connect((address, port))
        for request in range(1, 4):
            # GVCP: key, flags (acknowledge), READREG, length, request id; then the register's address.
            try:
                link.send(struct.pack(">BBHHHI", 0x42, 0x01, 0x0080, 4, request, _CONTROL_PRIVILEGE))
                answer = link.recv(64)
            except TimeoutError:
                continue
            except OSError:
                # Nobody listens there at this moment.
                time.sleep(0.3)
                continue
            if len(answer) >= 8 and answer[2:4] == b"\x00\x81":
                status = int.from_bytes(answer[:2])
                # A refusal is an answer too: somebody has exclusive access, and that is us.
                return status != 0 or any(answer[8:12])
    return None


def _aravis() -> tuple[Any, Any]:
    """Aravis and GLib, imported when first used: most lines have no GigE camera."""
    try:
        import gi

        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis, GLib
    except (ImportError, ValueError):
        # gi raises ValueError for a library that it has no description of.
        raise CameraError(_INSTALL) from None
    return Aravis, GLib
