"""GigE Vision cameras through Aravis: `gige://<id, serial number or address>[?exposure_us=&gain=&...]`.

Options: `exposure_us`, `gain`, `fps`, `pixel_format` (a PFNC name), `packet_size` (bytes, negotiated by
default), `trigger` = `free-run`, `software` (this driver triggers, `fps` times a second) or
`hardware[:Line1]`. Without an option the camera's own setting stays.

Aravis writes each image into memory that numpy reads, so nothing is copied. The driver must return every
buffer to Aravis, must never deliver an incomplete image, and must never treat a triggered camera that sends
nothing as lost.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
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
"""Both clocks are quartz clocks: a difference of 20 ppm adds up to 12 ms in ten minutes without images."""
_POLL_NS = 400_000_000
_SILENT_NS = 3_000_000_000
_CONTROL_PRIVILEGE = 0x0A00
"""The GigE Vision register that holds which program controls the camera; 0 means none."""

_INSTALL = (
    "GigE Vision needs the extra: pip install line-monitor[gige] and the Debian package gir1.2-aravis-0.8"
)


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    dtype: str
    channels: int = 1


# By PFNC code, which is the same for all vendors. The spelling of the names differs between cameras.
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
class DiscoveredCamera:
    """A camera that answered the discovery on one of this machine's networks."""

    id: str
    vendor: str
    model: str
    serial: str
    address: str
    source: str
    """The camera's `source` for the settings."""


def discover() -> list[DiscoveredCamera]:
    """All GigE Vision cameras that answer, sorted by id. It takes about 1 s. Raises CameraError without
    Aravis."""
    aravis, _ = _aravis()
    aravis.update_device_list()
    found = []
    for index in range(aravis.get_n_devices()):
        if aravis.get_device_protocol(index) == "GigEVision":
            identity = aravis.get_device_id(index)
            found.append(
                DiscoveredCamera(
                    identity,
                    aravis.get_device_vendor(index) or "",
                    aravis.get_device_model(index) or "",
                    aravis.get_device_serial_nbr(index) or "",
                    aravis.get_device_address(index) or "",
                    f"gige://{quote(identity, safe='')}",
                )
            )
    # A camera that can be reached through two network interfaces answers twice.
    return sorted(dict.fromkeys(found), key=lambda camera: (camera.id, camera.address))


def find_addresses(wanted: str, cameras: Iterable[DiscoveredCamera]) -> set[str]:
    """The addresses of the discovered cameras with that id, serial number or address."""
    return {
        camera.address
        for camera in cameras
        for name in (camera.id, camera.address, camera.serial, f"{camera.vendor}-{camera.serial}")
        if name.casefold() == wanted.casefold()
    }


class FrameCounter:
    """Converts a camera's frame ids to a count without wrap-around.

    GigE Vision 1 counts in 16 bits and skips 0; version 2 counts in 64 bits from 0 or 1. The stream does not
    contain the version, so a step back from an id below 65536 counts as the 16-bit wrap-around.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._cycle = 0xFFFF
        self._count = 0

    def count(self, frame_id: int) -> tuple[int, int]:
        """The index of the exposure, 0 for the first one, and the number of exposures lost before it."""
        if self._last is None:
            self._last = frame_id
            return 0, 0
        step = frame_id - self._last
        if step < 0 and self._last <= 0xFFFF:
            if frame_id == 0:
                self._cycle = 0x10000
            step += self._cycle
        if step < 0 or step > self._cycle // 2:
            # A gap can't be that large: the camera has restarted its count. The number of lost exposures is
            # unknown.
            step = 1
        self._last = frame_id
        self._count += step
        return self._count, max(0, step - 1)


class GigeCamera:
    """Implements `Camera`. `read` takes up to 1 s longer than `timeout_s` when the camera does not answer."""

    def __init__(self, source: str, clock: Clock = time.monotonic_ns, sleep: Sleep = time.sleep) -> None:
        options = Options(source)
        self._exposure_us = options.number("exposure_us", 0.1, 60e6)
        self._gain = options.number("gain", -100, 1000)
        self._fps = options.number("fps", 0.01, 10_000)
        self._pixel_format = options.text("pixel_format")
        self._packet_size = options.integer("packet_size", 220, 65_000)
        self._trigger = options.text("trigger")
        options.refuse_unknown()
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
            # The callback is no method of this class: a reference from the camera to `self` would make a
            # circle that is never freed.
            self._lost = lost = threading.Event()
            device.connect("control-lost", lambda *_: lost.set())
            # After a crash of the previous program the camera still sends images, to an old address. A camera
            # that is stopped already may refuse to stop.
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
            # The stamp of an incomplete buffer may belong to the previous image.
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
                # The camera no longer answers, so it counts as lost.
                self._lost.set()
        last_references = [self._held, self._stream, self._camera]
        self._held = self._stream = self._camera = None
        if self._lost.is_set():
            # When Aravis frees these objects, it sends a message to the camera. Without an answer it repeats
            # it for seconds, so this runs in a thread.
            threading.Thread(target=last_references.clear, name="gige-release", daemon=True).start()
        last_references = []

    def _restart(self) -> None:
        self._counter = FrameCounter()
        self._dates = StreamClock(_WINDOW_S)
        self._alive_ns = self._image_ns = self._clock()

    def _resolve(self) -> str:
        """The address of the camera that the source names."""
        cameras = discover()
        matches = find_addresses(self._wanted, cameras)
        if len(matches) > 1:
            addresses = " or ".join(sorted(matches))
            raise self._error(f"{len(matches)} cameras have this name: use an address, {addresses}")
        if matches:
            return matches.pop()
        if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", self._wanted):
            # Discovery is a broadcast, which routers do not forward, so the address is used without it.
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
        """Whether images come without a trigger. A camera that does not report this counts as triggered,
        since it may send nothing while the belt stands still."""
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
            # The buffer holds a reference to the array, because Aravis writes into its memory.
            buffer.array = array
            self._stream.push_buffer(buffer)
        self._camera.start_acquisition()
        self._restart()

    def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._stream.push_buffer(held)

    def _view(self, buffer: Any) -> tuple[NDArray[np.uint8] | NDArray[np.uint16] | None, str]:
        """The buffer's image as an array in the buffer's memory, and the name of its pixel format."""
        layout = _FORMATS[buffer.get_image_pixel_format()]
        width, height = buffer.get_image_width(), buffer.get_image_height()
        row = width * layout.channels * np.dtype(layout.dtype).itemsize
        stride = row + buffer.get_image_padding().x_padding
        lines = buffer.array[: height * stride].reshape(height, stride)[:, :row].view(layout.dtype)
        return (lines.reshape(height, width, 3) if layout.channels == 3 else lines), layout.name

    def _check_alive(self, now_ns: int) -> None:
        """Check every 0.4 s that a camera without images answers and that this program controls it. Raises
        CameraLost."""
        if self._free_runs and now_ns - self._image_ns > max(_SILENT_NS, self._slow_ns()):
            raise CameraLost(
                f"{self._wanted} answers but sends no images: check firewall, packet_size and bandwidth"
            )
        if now_ns - self._alive_ns < _POLL_NS:
            return
        controlled = poll(self._address)
        if not controlled:
            self._lost.set()
            reason = "does not answer" if controlled is None else "has restarted: no program controls it"
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
    """Whether a program controls the camera at `address`; None when it does not answer within 0.9 s.

    The request does not go through Aravis, because its retries take longer than the loss of a camera may stay
    undetected.
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
                # No program receives at that address at this moment.
                time.sleep(0.3)
                continue
            if len(answer) >= 8 and answer[2:4] == b"\x00\x81":
                status = int.from_bytes(answer[:2])
                # A refusal means that a program has exclusive access, and that is this one.
                return status != 0 or any(answer[8:12])
    return None


def _aravis() -> tuple[Any, Any]:
    """Aravis and GLib, imported at the first use, since most lines have no GigE camera."""
    try:
        import gi

        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis, GLib
    except (ImportError, ValueError):
        # gi raises ValueError for a library whose description is not installed.
        raise CameraError(_INSTALL) from None
    return Aravis, GLib
