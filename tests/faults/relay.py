"""A relay between the line and an RTSP camera that can damage the data, like a bad cable."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

_HEADERS = 400
"""Shorter packets belong to the protocol and are not damaged; only image data is."""


class Relay:
    """`with Relay(port) as cable:` forwards `cable.url` to the server. `cable.damages = True` flips bits of
    the images."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self._server_port = port
        self._chance = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.damages = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        # `shutdown` is needed, because `close` does not wake the thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), 2)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, from_camera: bool) -> None:
        with contextlib.suppress(OSError):  # either side may close its connection at any time
            while data := source.recv(65536):
                target.sendall(self._damaged(data) if from_camera and self.damages else data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _damaged(self, data: bytes) -> bytes:
        if len(data) < _HEADERS:
            return data
        torn = bytearray(data)
        for _ in range(max(1, len(torn) // 2000)):
            torn[self._chance.randrange(64, len(torn))] ^= 1 << self._chance.randrange(8)
        return bytes(torn)
