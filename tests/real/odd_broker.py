"""A broker of a few packets for tests, which behaves as no broker that can be installed does.

It answers CONNECT as the test says, acknowledges what it gets, and may end the connection on a PUBLISH.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

_CONNECT, _PUBLISH, _SUBSCRIBE, _PING = 1, 3, 8, 12

UINT16, UINT32, BYTE = (
    lambda value: value.to_bytes(2, "big"),
    lambda value: value.to_bytes(4, "big"),
    lambda value: bytes([value]),
)


def connack(reason: int = 0, **properties: int) -> bytes:
    """A CONNACK of MQTT 5 with these properties, by their names in the standard."""
    known: dict[str, tuple[int, Callable[[int], bytes]]] = {
        "receive_maximum": (0x21, UINT16),
        "maximum_qos": (0x24, BYTE),
        "retain_available": (0x25, BYTE),
        "maximum_packet_size": (0x27, UINT32),
        "server_keep_alive": (0x13, UINT16),
        "wildcard_available": (0x28, BYTE),
    }
    body = b"".join(bytes([known[name][0]]) + known[name][1](value) for name, value in properties.items())
    content = bytes([0, reason, len(body)]) + body
    return bytes([0x20, len(content)]) + content


@dataclass
class OddBroker:
    """`with OddBroker(...) as broker:` listens on `broker.port`."""

    answer: bytes = field(default_factory=connack)
    """The answer to CONNECT; empty: it closes the connection."""
    suback: int = 1
    """The reason code for each subscription."""
    on_publish: bytes | None = None
    """The answer to a PUBLISH, after which it closes the connection; None: it acknowledges."""
    only_version: int | None = None
    """The version of MQTT that it speaks; it closes a connection with another one. None: it speaks all."""
    topics: list[str] = field(default_factory=list)
    """The topics of the subscriptions."""

    def __enter__(self) -> OddBroker:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # The client may close its connection at any time.
        with client, contextlib.suppress(OSError, IndexError):
            while True:
                kind, flags, body = _read_packet(client)
                reply = self._reply(kind, flags, body)
                client.sendall(reply)
                if not reply or (kind == _PUBLISH and self.on_publish is not None):
                    return

    def _reply(self, kind: int, flags: int, body: bytes) -> bytes:
        if kind == _CONNECT:
            return self.answer if self.only_version in (None, body[6]) else b""
        if kind == _PING:
            return bytes([0xD0, 0])
        if kind == _SUBSCRIBE:
            topics = _read_topics(body)
            self.topics += topics
            return bytes([0x90, 3 + len(topics)]) + body[:2] + bytes([0]) + bytes([self.suback]) * len(topics)
        if kind == _PUBLISH and self.on_publish is not None:
            return self.on_publish
        if kind == _PUBLISH and flags >> 1 & 3:
            at = 2 + int.from_bytes(body[:2], "big")
            return bytes([0x40, 2]) + body[at : at + 2]
        return bytes([0xD0, 0])  # a needless PINGRESP, so that the connection goes on


def _read_packet(client: socket.socket) -> tuple[int, int, bytes]:
    first = client.recv(1)[0]
    length = shift = 0
    while True:
        byte = client.recv(1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            break
    body = b""
    while len(body) < length:
        chunk = client.recv(length - len(body))
        if not chunk:
            raise OSError("the client has gone")
        body += chunk
    return first >> 4, first & 15, body


def _read_topics(body: bytes) -> list[str]:
    at, topics = 3 + body[2], []
    while at < len(body):
        size = int.from_bytes(body[at : at + 2], "big")
        topics.append(body[at + 2 : at + 2 + size].decode())
        at += 3 + size
    return topics
