"""Measures the transport of a frame from the camera's buffer to the scorer: one copy and one message.

It knows nothing of cameras or networks: the frames are random pixels.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zmq

from monitor.line_state import messages
from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.ring import FinalVerdict, Ring, Stage, Tally
from monitor.verdict import Reason, Verdict

SIZES = ((480, 640), (1080, 1920), (2048, 2448))
_CAMERA = "bench"


@dataclass(frozen=True)
class TransportRow:
    """Median times for one size of frame (Mono8), in milliseconds."""

    height: int
    width: int
    ms: float
    """The whole transport: write the record, copy the pixels, send and receive the message, read, release."""
    copy_ms: float
    """A plain copy of the same number of bytes, which is the lower limit."""

    @property
    def ratio(self) -> float:
        return self.ms / self.copy_ms

    @property
    def core_share_at_30(self) -> float:
        """Share of one core's time at 30 frames a second."""
        return self.ms * 30 / 1000


def measure(
    height: int, width: int, folder: Path, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> TransportRow:
    """Measure for about `seconds`, with a ring in `folder`. Raises RingError when the ring does not fit
    there."""
    session = uuid.uuid4()
    Ring.create(folder, _CAMERA, session)
    ring = Ring(folder, _CAMERA, session)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    receiver = messages.open_receiver(context, folder, messages.FRAMES)
    sender = messages.open_sender(context, folder, messages.FRAMES)
    try:
        ring.reserve(height * width)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
        plain = np.empty_like(pixels)
        times: list[float] = []
        copies: list[float] = []
        until = clock() + seconds
        number = 0
        while number < 10 or clock() < until:
            number += 1
            began = clock()
            _transport(ring, sender, receiver, number, pixels)
            times.append(clock() - began)
            began = clock()
            np.copyto(plain, pixels)
            copies.append(clock() - began)
        return TransportRow(height, width, 1000 * float(np.median(times)), 1000 * float(np.median(copies)))
    finally:
        sender.close(0)
        receiver.close(0)
        context.term()
        ring.close()


def _transport(
    ring: Ring,
    sender: zmq.Socket[bytes],
    receiver: zmq.Socket[bytes],
    number: int,
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    slot = ring.free_slot()
    assert slot is not None, "each frame is released before the next one"
    height, width = pixels.shape
    frame = Frame(number, 1, 1, 2, 2, 3, 0, number, slot, PixelFormat.Mono8, height, width)
    ring.write_captured(frame)
    ring.fill(frame, pixels)
    messages.send_descriptor(sender, _CAMERA, number)
    receiver.poll(1000)
    messages.receive_descriptors(receiver)
    waiting = ring.unreleased_frames()[0]
    ring.pixels(waiting)
    ring.release(waiting)
    ring.write_closed(number, FinalVerdict(Verdict.PASS, Reason.NONE, True, False, 1, 1))
    ring.write_stage(number, Stage.SENT, 1)
    ring.write_tally(Tally(cursor=number))
