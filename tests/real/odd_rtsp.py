"""An RTSP camera with bad habits, for tests: its time stamps, its answers and its pace are given.

It serves H.264 over TCP interleaved on threads of the test's own process; each client gets its own stream
from the clip's first image on. Cameras with good habits are in `cameras.py`.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_PYTHON = "/usr/bin/python3"
_CHUNK = 1400
_PIECE = 60


def make_clip(file: Path) -> Path:
    """A clip of 40 images, made with GStreamer."""
    script = Path(__file__).with_name("h264_clip.py")
    subprocess.run([_PYTHON, str(script), str(file)], check=True, timeout=60)
    return file


class OddRtsp:
    """`with OddRtsp(clip) as camera:` streams at `camera.url`.

    `stamp(n)` is the RTP stamp of image n in 1/90000 s; `answers` are status lines by method, in place of
    200, with further headers after a line break. `bytes_per_s` is what the network carries of the stream;
    more waits. Without a clip it answers, but has no images.
    """

    def __init__(
        self,
        clip: Path | None = None,
        fps: float = 10,
        stamp: Callable[[int], int] | None = None,
        answers: dict[str, str] | None = None,
        bytes_per_s: float | None = None,
    ) -> None:
        self._images, self._sets = _split_clip(clip.read_bytes() if clip else b"")
        self._fps, self._answers = fps, answers or {}
        self._bytes_per_s = bytes_per_s
        self._stamp = stamp or (lambda n: round(n / fps * 90_000))
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"rtsp://127.0.0.1:{self.port}/live"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            # Otherwise the kernel would join the small pieces of a slow network to bursts.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            waiting = b""
            while True:
                while b"\r\n\r\n" not in waiting:
                    more = client.recv(4096)
                    if not more:
                        return
                    waiting += more
                head, _, waiting = waiting.partition(b"\r\n\r\n")
                rows = head.decode(errors="replace").split("\r\n")
                method, uri = rows[0].split(" ")[:2]
                number = next(row.partition(":")[2].strip() for row in rows if row.lower().startswith("cseq"))
                client.sendall(self._answer(method, uri, number).encode())
                if method == "PLAY":
                    threading.Thread(target=self._play, args=(client,), daemon=True).start()
                    while client.recv(4096):
                        pass

    def _answer(self, method: str, uri: str, number: str) -> str:
        status = self._answers.get(method, "200 OK")
        extra, body = "Session: 1\r\n", ""
        if method == "DESCRIBE" and status.startswith("200"):
            body = self._describe()
            extra = (
                f"Content-Base: {uri}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            )
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60\r\n"
        return f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n{extra}\r\n{body}"

    def _describe(self) -> str:
        sets = ",".join(base64.b64encode(part).decode() for part in self._sets)
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;"
            f"sprop-parameter-sets={sets}\r\na=control:track1\r\n"
        )

    def _play(self, client: socket.socket) -> None:
        began, sequence = time.monotonic(), 0
        self._sent = 0
        with contextlib.suppress(OSError):
            for number in range(1 << 30 if self._images else 0):
                if self._stopped.wait(max(0.0, began + number / self._fps - time.monotonic())):
                    return
                for packet, is_last in _packets(self._images[number % len(self._images)]):
                    stamp = self._stamp(number) & 0xFFFFFFFF
                    head = struct.pack(">BBHII", 0x80, 96 | 0x80 * is_last, sequence & 0xFFFF, stamp, 7)
                    whole = b"$\0" + struct.pack(">H", len(head) + len(packet)) + head + packet
                    self._send(client, whole, began)
                    sequence += 1

    def _send(self, client: socket.socket, packet: bytes, began: float) -> None:
        """Send the packet, in small pieces at the network's pace where it has one."""
        size = len(packet) if self._bytes_per_s is None else _PIECE
        for at in range(0, len(packet), size):
            client.sendall(packet[at : at + size])
            self._sent += size
            if self._bytes_per_s is not None:
                self._stopped.wait(max(0.0, began + self._sent / self._bytes_per_s - time.monotonic()))


def _split_clip(data: bytes) -> tuple[list[list[bytes]], list[bytes]]:
    """The NAL units of each image, and the parameter sets."""
    units = [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]
    images: list[list[bytes]] = []
    for unit in units:
        if unit[0] & 31 == 9:
            images.append([])
        else:
            images[-1].append(unit)
    sets = {unit[0] & 31: unit for unit in units if unit[0] & 31 in (7, 8)}
    return images, [sets[kind] for kind in sorted(sets)]


def _packets(units: list[bytes]) -> list[tuple[bytes, bool]]:
    """The RTP payloads of an image (RFC 6184), each with whether it is the image's last."""
    found = []
    for unit in units:
        if len(unit) <= _CHUNK:
            found.append(unit)
            continue
        for at in range(1, len(unit), _CHUNK):
            begins, ends = at == 1, at + _CHUNK >= len(unit)
            mark = 0x80 * begins | 0x40 * ends | unit[0] & 31
            found.append(bytes([unit[0] & 0xE0 | 28, mark]) + unit[at : at + _CHUNK])
    return [(payload, index == len(found) - 1) for index, payload in enumerate(found)]
