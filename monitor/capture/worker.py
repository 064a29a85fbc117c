"""The capture worker: it reads one camera's driver and writes each exposure into the camera's ring.

It knows nothing of scores or verdicts, publishes nothing, and waits only for its camera. On a frame's way it
comes first; the scoring worker is next.

Every exposure that the camera is known to have made gets a frame number, also one without a usable image. The
exceptions: the ring has no free record; more than 1000 exposures were missed before one shot; exposures of a
live view that were missed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq

import drivers
from drivers.camera import Camera, CameraError, CameraLost, Shot, SourceEnded
from monitor.capture.position import StoredPosition
from monitor.line_state import messages
from monitor.line_state.board import CameraState, Field
from monitor.line_state.frame import Frame, PixelFormat, ShotError, crop_shot, publishing_margin_ms
from monitor.line_state.live_settings import read_camera
from monitor.line_state.ring import FrameTooLarge, Ring, RingError
from monitor.line_state.worker_process import Worker
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Reason

_MS = 1_000_000
_READ_S = 0.5
_VIEW_NICENESS = 15
_MOST_MISSED = 1000
"""The most missed exposures before a shot that get a frame: a camera that reports more has lost count."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The monotonic and the UTC clock, both in nanoseconds."""

    now_ns: Callable[[], int] = time.monotonic_ns
    utc_ns: Callable[[], int] = time.time_ns


class FreezeWatch:
    """Detects a frozen camera: it sends images, but its own time stamps and frame numbers do not change."""

    def __init__(self, after_ns: int = 1_000_000_000, after_shots: int = 3) -> None:
        self._after_ns, self._after_shots = after_ns, after_shots
        self._last: tuple[int | None, int | None] = (None, None)
        self._since_ns, self._shots = 0, 0

    def is_frozen(self, shot: Shot) -> bool:
        mark = (shot.device_ns, shot.device_frame)
        if mark == (None, None) or mark != self._last:
            self._last, self._since_ns, self._shots = mark, shot.captured_ns, 0
            return False
        self._shots += 1
        return self._shots >= self._after_shots and shot.captured_ns - self._since_ns >= self._after_ns


class Intake:
    """Gives a camera's shots their frame numbers and writes them into its ring."""

    def __init__(
        self, camera: CameraSettings, ring: Ring, announce: Callable[[int], None], times: Clocks
    ) -> None:
        self._camera, self._ring, self._announce, self._times = camera, ring, announce, times
        self._next = ring.recover_capture() + 1
        self._latest = camera.mode is Mode.LATEST

    def change_times(self, camera: CameraSettings) -> None:
        """Use this camera's deadline and last moment of the gate from the next frame on."""
        self._camera = camera

    def admit(self, shot: Shot, frozen: bool = False) -> str | None:
        """Write a frame for the shot and for each exposure missed before it.

        Returns the trouble with the shot in one line, or None. Raises RingError when memory is short.
        """
        trouble = shot.fault
        if not self._latest:
            for _ in range(min(shot.missed, _MOST_MISSED)):
                self._record(shot, Reason.NO_FRAME)
        if shot.missed and not trouble:
            trouble = f"{shot.missed} exposures never arrived"
        if shot.pixels is None or shot.undated or frozen:
            self._record(shot, Reason.BAD_FRAME)
            frozen_text = "the camera is frozen: it sends the same frame again and again"
            return trouble or shot.undated or frozen_text
        try:
            pixels, format = crop_shot(shot, self._camera.roi)
        except ShotError as error:
            self._record(shot, Reason.BAD_FRAME)
            return str(error)
        try:
            self._ring.reserve(pixels.nbytes)
        except FrameTooLarge as error:
            self._record(shot, Reason.BAD_FRAME)
            return str(error)
        slot = self._ring.free_slot()
        if slot is None:
            self._record(shot, Reason.SUPERSEDED if self._latest else Reason.QUEUE_FULL)
            return "no free slot in the ring: the scoring worker does not keep up"
        frame = self._record(shot, Reason.NONE, slot, format, pixels.shape[0], pixels.shape[1])
        if frame is None:
            return "the publisher has been away too long, so the ring is full: new exposures get no frame"
        self._ring.fill(frame, pixels)
        self._announce(frame.number)
        return trouble

    def _record(
        self,
        shot: Shot,
        refused: Reason,
        slot: int = -1,
        format: PixelFormat = PixelFormat.Mono8,
        height: int = 0,
        width: int = 0,
    ) -> Frame | None:
        if not self._ring.has_free_record(self._next):
            self._ring.count_overrun()
            return None
        captured = shot.captured_ns
        deadline_ms = self._camera.deadline_ms
        margin = int(publishing_margin_ms(deadline_ms) * _MS)
        # A missed exposure gave no numbers. Those of the shot after it would count as that shot's frame.
        known = refused is not Reason.NO_FRAME
        frame = Frame(
            number=self._next,
            captured_ns=captured,
            captured_utc_ns=self._times.utc_ns() - (self._times.now_ns() - captured),
            decide_by_ns=captured + deadline_ms * _MS - margin,
            deadline_ns=captured + deadline_ms * _MS,
            expires_ns=captured + self._camera.actuate_ms * _MS,
            device_ns=shot.device_ns if known and shot.device_ns is not None else -1,
            device_frame=shot.device_frame if known and shot.device_frame is not None else -1,
            slot=slot,
            format=format,
            height=height,
            width=width,
            refused=refused,
        )
        self._ring.write_captured(frame)
        self._next += 1
        return frame


class CaptureLoop:
    """The capture worker's loop: one camera."""

    def __init__(self, worker: Worker, camera: CameraSettings, times: Clocks) -> None:
        self._worker, self._camera = worker, camera
        self._ring = Ring(worker.folder, camera.name, worker.session)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames = messages.open_sender(self._context, worker.folder, messages.FRAMES)
        self._position = StoredPosition(worker.folder, self._ring)
        self._intake = Intake(camera, self._ring, self._announce, times)
        self._state = CameraState.STARTING
        self._place: str | None = None
        if worker.board.read(worker.name, Field.CAMERA_STATE) != CameraState.STARTING:
            # An earlier capture worker had the camera open: the camera is lost until it is open again.
            self._set_state(CameraState.LOST, "the capture worker was restarted")
        worker.mark_running()

    def run(self) -> None:
        """Keep the camera open until the worker is stopped; open it again after every failure."""
        pause_s = 0.2
        while not self._worker.stopping:
            try:
                driver = drivers.open(self._camera.source, progress=self._position)
                pause_s = 0.2 if self.run_once(driver) else min(2.0, pause_s * 2)
            except SourceEnded:
                self._set_state(CameraState.LOST, "the source has ended")
                while not self._worker.stopping:
                    self._worker.sleep(1.0)
            except (CameraError, RingError) as error:
                self._set_state(CameraState.LOST, str(error))
                pause_s = min(2.0, pause_s * 2)
            self._worker.sleep(pause_s)

    def run_once(self, driver: Camera) -> bool:
        """Open the camera and read it until it is lost or the worker is stopped.

        Returns whether the camera gave any shot. Raises CameraError, SourceEnded and RingError.
        """
        watch, seen = FreezeWatch(), False
        try:
            self._worker.report_alive(15.0)
            driver.open()
            self._say_place(drivers.place(driver))
            while not self._worker.stopping:
                # A driver may block for 3 s; after 4 s the supervisor ends this worker.
                self._worker.report_alive(4.0)
                try:
                    shot = driver.read(_READ_S)
                except CameraLost as error:
                    self._set_state(CameraState.LOST, str(error))
                    return seen
                if shot is None:
                    if self._state is not CameraState.UP:
                        # The trouble of the last image stays until the next one.
                        self._set_state(CameraState.UP)
                    continue
                seen = True
                self._intake.change_times(read_camera(self._worker.board, self._camera))
                frozen = watch.is_frozen(shot)
                trouble = self._intake.admit(shot, frozen)
                self._position.tell(shot.device_frame)
                if shot.undated:
                    self._set_state(CameraState.UNDATED, shot.undated)
                elif frozen:
                    self._set_state(CameraState.FROZEN, trouble or "")
                else:
                    self._set_state(CameraState.UP, trouble or "")
                    if trouble:
                        self._worker.log.warning("%s", trouble)
        finally:
            driver.close()
        return seen

    def _say_place(self, place: str | None) -> None:
        """Logs which folder or clip is read, once."""
        if place and place != self._place:
            self._worker.log.info("camera %s reads %s", self._camera.name, place)
            self._place = place

    def _announce(self, frame: int) -> None:
        messages.send_descriptor(self._frames, self._camera.name, frame)

    def _set_state(self, state: CameraState, why: str = "") -> None:
        self._worker.board.write_trouble(self._worker.name, why)
        if state is self._state:
            return
        if state is CameraState.UP:
            self._worker.log.info("camera %s is up", self._camera.name)
        else:
            self._worker.log.warning("camera %s is %s: %s", self._camera.name, state.word, why)
        self._state = state
        self._worker.board.write(self._worker.name, Field.CAMERA_STATE, state)


def work(worker: Worker) -> None:
    camera = worker.settings.camera_named(worker.name.removeprefix("capture-"))
    if camera.mode is Mode.LATEST:
        # Parts come first: on a busy machine a live view must take no processor time from them.
        os.nice(_VIEW_NICENESS)
    CaptureLoop(worker, camera, Clocks()).run()
