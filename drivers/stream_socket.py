"""The TCP connection over which FFmpeg reads a stream: shows whether the network is at rest between images.

It knows nothing of images. While data waits at the camera or on the way, it keeps coming: a network that is
too slow for the stream never rests. FFmpeg's own socket is only looked at, never read; it is found among this
process's files.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable
from pathlib import Path

from drivers.pace import Clock

_FILES = "/proc/self/fd"
_REST_SHARE, _MOST_REST_NS = 0.2, 20_000_000
_WATCH_SHARE, _MOST_WATCH_NS = 0.75, 100_000_000
"""Of the usual time between images, and at most. FFmpeg can't deliver the next image before most of that time
is over, so watching does not delay images; where the frame rate rises, it delays one by less than 0.1 s."""


def list_sockets() -> dict[int, str]:
    """This process's sockets: their names by number."""
    found = {}
    for file in Path(_FILES).iterdir():
        try:
            target = str(file.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found[int(file.name)] = target
    return found


def find_connection(before: dict[int, str], port: int) -> int | None:
    """The one TCP connection to this port that was made since `before`; None without one, or where there are
    several."""
    made = [number for number, name in list_sockets().items() if before.get(number) != name]
    connections = [number for number in made if _is_connected(number, port)]
    return connections[0] if len(connections) == 1 else None


def _is_connected(number: int, port: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(number)) as view:
            is_internet = view.family in (socket.AF_INET, socket.AF_INET6)
            return is_internet and view.type == socket.SOCK_STREAM and view.getpeername()[1] == port
    except OSError:
        return False


def count_waiting(number: int) -> int:
    """The bytes that have arrived and are not read yet."""
    return int(struct.unpack("i", fcntl.ioctl(number, termios.FIONREAD, bytes(4)))[0])


def is_at_rest(
    waiting: Callable[[], int], arrived_ns: int, usual_ns: int, clock: Clock, sleep: Callable[[float], None]
) -> bool:
    """Whether nothing arrives for a fifth of the usual time between images (at most 20 ms), after the image
    that arrived at `arrived_ns`. `waiting` counts the bytes that have arrived; where it fails, nothing is
    known."""
    needed_ns = min(round(_REST_SHARE * usual_ns), _MOST_REST_NS)
    end_ns = arrived_ns + min(round(_WATCH_SHARE * usual_ns), _MOST_WATCH_NS)
    try:
        seen, since_ns = waiting(), clock()
        while since_ns + needed_ns <= end_ns:
            sleep(needed_ns / 3e9)
            now_ns = clock()
            now_seen = waiting()
            if now_seen != seen:
                seen, since_ns = now_seen, clock()
            elif now_ns - since_ns >= needed_ns:
                return True
    except OSError:
        return False
    return False
