"""Finds out what a port speaks, after a connection to it has failed: MQTT, TLS, HTTP or nothing known.

It knows nothing of verdicts, and sends no account and no certificate. Each try opens a connection of its own
and takes at most 1 s for each step.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import uuid
from enum import Enum

from monitor.publish import tls_errors
from monitor.settings import MqttSettings

_STEP_S = 1.0
_CONNACK = 0x20
_TLS_RECORDS = (b"\x16\x03", b"\x15\x03")
"""The beginning of a handshake record and of an alert (RFC 8446, 5.1)."""


class Speech(Enum):
    """What a port speaks."""

    MQTT = "MQTT"
    TLS = "TLS"
    HTTP = "HTTP"
    UNKNOWN = "unknown"


def find_speech(settings: MqttSettings) -> Speech:
    """What the broker's port speaks, whatever the settings say of TLS."""
    if _speaks_tls(settings):
        return Speech.TLS
    with contextlib.suppress(OSError):
        if _send_connect(settings, settings.protocol, None)[:1] == bytes([_CONNACK]):
            return Speech.MQTT
    with contextlib.suppress(OSError), _open(settings) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if plain.recv(4) == b"HTTP":
            return Speech.HTTP
    return Speech.UNKNOWN


def takes_version(settings: MqttSettings, version: int, context: ssl.SSLContext | None) -> bool:
    """Whether the broker answers a CONNECT of that MQTT version, and does not refuse the version."""
    try:
        answer = _send_connect(settings, version, context)
    except OSError:
        return False
    unsupported = {4: 0x01, 5: 0x84}[version]
    return len(answer) >= 4 and answer[0] == _CONNACK and answer[3] != unsupported


def find_alert(settings: MqttSettings, context: ssl.SSLContext) -> ssl.SSLError | None:
    """The TLS error that the broker answers with once the handshake is over; None without one. With TLS 1.3 a
    broker refuses the line's certificate, or a missing one, only then."""
    try:
        with _open(settings) as plain, context.wrap_socket(plain, server_hostname=settings.host) as encrypted:
            # Nothing is sent: data that a broker no longer reads would make the kernel discard the alert.
            encrypted.recv(1)
    except ssl.SSLError as error:
        return error if tls_errors.is_alert(error) else None
    except OSError:
        return None
    return None


def _speaks_tls(settings: MqttSettings) -> bool:
    """Whether the first answer to a TLS handshake is a record of TLS. The handshake need not succeed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = context.wrap_bio(incoming, outgoing, server_hostname=settings.host)
    with contextlib.suppress(ssl.SSLWantReadError):  # it now waits for the answer
        handshake.do_handshake()
    try:
        with _open(settings) as plain:
            plain.sendall(outgoing.read())
            return plain.recv(2) in _TLS_RECORDS
    except OSError:
        return False


def _open(settings: MqttSettings) -> socket.socket:
    opened = socket.create_connection((settings.host, settings.port), timeout=_STEP_S)
    opened.settimeout(_STEP_S)
    return opened


def _send_connect(settings: MqttSettings, version: int, context: ssl.SSLContext | None) -> bytes:
    """Sends a CONNECT without an account. Returns the first bytes of the answer; empty without one."""
    with _open(settings) as plain:
        if context is None:
            return _exchange(plain, version)
        with context.wrap_socket(plain, server_hostname=settings.host) as encrypted:
            return _exchange(encrypted, version)


def _exchange(sock: socket.socket, version: int) -> bytes:
    client_id = f"line-monitor-probe-{uuid.uuid4().hex[:8]}".encode()
    header = b"\x00\x04MQTT" + bytes([version, 0x02]) + struct.pack("!H", 3)
    if version == 5:
        header += b"\x00"  # no properties
    body = header + struct.pack("!H", len(client_id)) + client_id
    sock.sendall(bytes([0x10, len(body)]) + body)
    return sock.recv(16)
