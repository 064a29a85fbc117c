"""The ZeroMQ sockets between workers, and their messages.

They know nothing of verdicts. A descriptor only wakes a worker and names a frame; the frame's state is in the
ring. So every send returns at once, and a descriptor that finds the queue full is dropped: no verdict is
lost. A message that can't be read is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.errors import LineMonitorError

VERSION = 1
FRAMES, VERDICTS, SNAPSHOTS = "frames.ipc", "verdicts.ipc", "snapshots.ipc"
_WAKES_HELD = 1000
SNAPSHOTS_HELD = 8


class MessageError(LineMonitorError):
    """The message can't be read. The error's message is one line with the cause."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names a frame that was captured (socket `frames`) or scored (socket `verdicts`)."""

    version: int
    camera: str
    frame: int


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """The header of a snapshot message. The pixels and the anomaly map follow it."""

    version: int
    camera: str
    frame: int
    shape: tuple[int, ...]
    map_shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SnapshotMessage:
    """A frame with its anomaly map, for the snapshot writer."""

    camera: str
    frame: int
    image: Image
    """uint8, (H, W, 3) BGR or (H, W)."""
    anomaly_map: NDArray[np.float32]


def open_receiver(
    context: zmq.Context[zmq.Socket[bytes]], folder: Path, name: str, held: int = 0
) -> zmq.Socket[bytes]:
    """Opens the receiving end of socket `name`, for one worker only. `held`: the most messages that wait."""
    socket = context.socket(zmq.PULL)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, held or _WAKES_HELD)
    socket.bind(f"ipc://{folder / name}")
    return socket


def open_sender(
    context: zmq.Context[zmq.Socket[bytes]], folder: Path, name: str, held: int = 0
) -> zmq.Socket[bytes]:
    """Opens a sending end of socket `name`, which connects again after a restart of the receiver. `held`: the
    most messages that wait."""
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, held or _WAKES_HELD)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.connect(f"ipc://{folder / name}")
    return socket


def send_descriptor(socket: zmq.Socket[bytes], camera: str, frame: int) -> None:
    """Sends a frame's descriptor if there is room in the queue. Otherwise the receiver finds the frame in the
    ring."""
    if socket.poll(0, zmq.POLLOUT):
        socket.send(msgspec.msgpack.encode(Descriptor(VERSION, camera, frame)), zmq.NOBLOCK)


def receive_descriptors(socket: zmq.Socket[bytes]) -> tuple[list[Descriptor], int]:
    """All waiting descriptors, and the number of messages that could not be read."""
    found, bad = [], 0
    for _ in range(_WAKES_HELD):
        if not socket.poll(0, zmq.POLLIN):
            break
        parts = socket.recv_multipart(zmq.NOBLOCK)
        try:
            descriptor = msgspec.msgpack.decode(parts[0], type=Descriptor)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            bad += 1
            continue
        if descriptor.version == VERSION:
            found.append(descriptor)
        else:
            bad += 1
    return found, bad


def send_snapshot(
    socket: zmq.Socket[bytes], camera: str, frame: int, image: Image, anomaly_map: NDArray[np.float32]
) -> None:
    """Sends a copy of a frame and its map to the snapshot writer. The caller must have polled for room."""
    height, width = anomaly_map.shape
    header = SnapshotHeader(VERSION, camera, frame, image.shape, (height, width))
    socket.send_multipart(
        [
            msgspec.msgpack.encode(header),
            np.ascontiguousarray(image).data,
            np.ascontiguousarray(anomaly_map).data,
        ],
        zmq.NOBLOCK,
    )


def receive_snapshot(socket: zmq.Socket[bytes]) -> SnapshotMessage:
    """The next snapshot message. Raises MessageError."""
    parts = socket.recv_multipart(zmq.NOBLOCK)
    if len(parts) != 3:
        raise MessageError(f"a snapshot has 3 parts, this has {len(parts)}")
    try:
        header = msgspec.msgpack.decode(parts[0], type=SnapshotHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a snapshot: {error}") from error
    if header.version != VERSION:
        raise MessageError(f"snapshot message of version {header.version}, this is version {VERSION}")
    try:
        image = np.frombuffer(parts[1], np.uint8).reshape(header.shape)
        anomaly_map = np.frombuffer(parts[2], np.float32).reshape(header.map_shape)
    except ValueError as error:
        raise MessageError(f"snapshot of camera {header.camera!r}: {error}") from error
    return SnapshotMessage(header.camera, header.frame, image, anomaly_map)
