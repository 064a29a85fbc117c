"""One connection to the broker: a paho client from CONNECT to the end of the TCP connection.

It knows nothing of verdicts. `monitor.publish.mqtt_connection` makes one for each connection, so that no
message of an earlier connection is sent again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from monitor.errors import LineMonitorError
from monitor.publish import connect_trouble
from monitor.publish.broker_limits import BrokerLimits, read_limits
from monitor.publish.tls_files import TlsFilesError, make_context
from monitor.settings import MqttSettings

_CONNECT_S = 3.0
_NO_MATCHING_SUBSCRIBERS = 0x10
"""MQTT 5, 3.4.2.1: the broker took the message while no client was subscribed. Reporting it is optional."""
KEEPALIVE_TIMEOUT, RETAIN_NOT_SUPPORTED, PACKET_TOO_LARGE, SESSION_TAKEN_OVER = 0x8D, 0x9A, 0x95, 0x8E


class ConnectError(LineMonitorError):
    """The broker can't be reached or refuses the connection. The message is one line with the fix."""

    def __init__(
        self, message: str, code: int | None = None, *, is_closed: bool = False, kind: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        """The broker's reason code; None without one."""
        self.is_closed = is_closed
        """Whether the broker closed the connection without an answer."""
        self.kind = kind
        """What was found without a search for a mistake in the settings: the same as long as it lasts."""

    def copy(self, message: str = "") -> ConnectError:
        """A new error, because the traceback of this one refers to a client and would keep it in memory."""
        kept = message or str(self)
        return ConnectError(kept, self.code, is_closed=self.is_closed, kind=self.kind)


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the broker publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    short_payload: bytes | None = None
    """For a broker that takes only small packets; None where there is no shorter one."""
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """The topics that a connection subscribes to."""

    topics: tuple[str, ...] = ()
    without_wildcards: tuple[str, ...] = ()
    """In place of `topics` at a broker that takes no wildcards."""
    optional: tuple[str, ...] = ()
    """Those of `topics` without which the connection still serves."""


class BrokerClient:
    """The client of one TCP connection, and what it has received since the link last took it."""

    def __init__(
        self, settings: MqttSettings, client_id: str, will: Will | None, subscriptions: Subscriptions
    ) -> None:
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.unheard: set[int] = set()
        self.received: list[Received] = []
        self.refusal = ""
        self.limits = BrokerLimits(retains=will is None or will.retain)
        """A broker with MQTT 3.1.1 names no limits. It took the Will as it was offered."""
        self.unreadable: list[str] = []
        """The topics to which the broker refused the subscription."""
        self.ended_by: ReasonCode | None = None
        """The broker's reason for ending the connection, as far as it gave one (MQTT 5)."""
        self._settings, self._subscriptions = settings, subscriptions
        self._v5 = settings.protocol == 5
        self._reason: ReasonCode | None = None
        self._is_silent = False
        """Whether paho closed the connection because the other end had been silent for the keepalive."""
        self._asked: tuple[str, ...] = ()
        self._subscribed = not subscriptions.topics
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if self._v5 else True,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311,
        )
        # 0 is no bound. `Link.room` keeps to the broker's receive maximum, so paho's own queue stays empty.
        self.client.max_inflight_messages_set(0)
        self.client.connect_timeout = _CONNECT_S
        if will is not None:
            self.client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        if settings.username is not None:
            password = settings.password.get_secret_value() if settings.password else None
            self.client.username_pw_set(settings.username, password)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        self.client.on_socket_open = self._on_socket_open

    def connect(self, *, diagnose: bool = False) -> None:
        """Connects and subscribes. Blocks for at most three times the connect timeout of 3 s: for TCP,
        CONNACK and SUBACK. Name resolution and the TLS handshake come on top, and with `diagnose` the search
        for a mistake in the settings, some seconds. Raises ConnectError."""
        context = self._open(diagnose)
        self._loop_until(lambda: self._reason is not None)
        if self._reason is None:
            is_closed = self.client.socket() is None and not self._is_silent
            self.abort()
            code = self.ended_by.value if self.ended_by is not None else None
            if code is not None:
                why = connect_trouble.explain_reason(self.ended_by, self._settings)
            else:
                why = connect_trouble.explain_no_answer(self._settings, context, is_closed, diagnose=diagnose)
            raise ConnectError(f"{self.where} {why}", code, is_closed=is_closed, kind="no answer")
        if self._reason.is_failure:
            self.abort()
            why = connect_trouble.explain_reason(self._reason, self._settings)
            raise ConnectError(f"{self.where} refuses the connection: {why}", self._reason.value)
        # Waits at most 3 s for SUBACK. The connection is used without it, but may then not receive the
        # gateway's messages yet.
        self._loop_until(lambda: self._subscribed)

    @property
    def where(self) -> str:
        return f"broker {self._settings.host}:{self._settings.port}"

    def _open(self, diagnose: bool) -> ssl.SSLContext | None:
        """Opens the TCP connection, with TLS where it is set, and sends CONNECT. Raises ConnectError."""
        try:
            if (context := make_context(self._settings)) is not None:
                self.client.tls_set_context(context)
            properties = None
            if self._v5:
                properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = 0
            self.client.connect(
                self._settings.host,
                self._settings.port,
                keepalive=self._settings.keepalive_s,
                clean_start=True if self._v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            )
        except TlsFilesError as error:
            raise ConnectError(str(error)) from error
        except ssl.SSLError as error:
            why = connect_trouble.explain_tls(error, self._settings, diagnose=diagnose)
            raise ConnectError(f"{self.where}: TLS failed: {why}", kind=f"TLS {error}") from error
        except socket.gaierror as error:
            raise ConnectError(f"{self.where}: unknown host; check mqtt.host") from error
        except (OSError, ValueError) as error:
            why = connect_trouble.explain_unreachable(error, self._settings, diagnose=diagnose)
            raise ConnectError(f"{self.where} {why}", kind=str(error)) from error
        return context

    def publish_and_wait(
        self, topic: str, payload: bytes, *, retain: bool = False, expires: bool = False
    ) -> int:
        """Publishes with QoS 1 and waits at most 3 s, until the broker has acknowledged or refused the
        message, or the connection has ended. Returns the message id. With `expires` the message expires after
        1 s, which only MQTT 5 knows."""
        properties = None
        if expires and self._v5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = 1
        mid = self.client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid
        self._loop_until(lambda: mid in self.acknowledged or mid in self.refused)
        return mid

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Reads and writes until the condition holds, the connection ends, or so many seconds have passed.
        Returns whether the condition holds."""
        self._loop_until(condition, seconds)
        return condition()

    def _loop_until(self, condition: Callable[[], bool], seconds: float = _CONNECT_S) -> None:
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            if self.client.loop(0.05) != paho.MQTT_ERR_SUCCESS or self.client.socket() is None:
                break

    @property
    def is_open(self) -> bool:
        return self._socket() is not None

    def disconnect(self) -> None:
        """Ends the connection in order: the broker then does not publish the Will."""
        self.client.disconnect()
        self.read_and_write()
        self.free_client()

    def explain_end(self) -> str:
        """Why the connection has ended, in one line."""
        if self.ended_by is not None:
            return f"{self.where} {connect_trouble.explain_reason(self.ended_by, self._settings)}"
        return f"{self.where} closed or lost the connection"

    def abort(self) -> None:
        """Ends the connection without a DISCONNECT, so that the broker publishes the Will. Data that the
        kernel has not sent yet is discarded: after a plain close the kernel would still send it."""
        if (sock := self._socket()) is not None:
            with contextlib.suppress(OSError):  # the socket may be closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    def free_client(self) -> None:
        """Removes the client's callbacks after the end of the connection, so that Python frees the client at
        once. The callbacks refer to this object, and this object refers to the client: with such a cycle the
        client, and the pair of sockets that it uses internally, would stay open until a garbage
        collection."""
        client = self.client
        client.on_connect = client.on_disconnect = client.on_publish = None
        client.on_message = client.on_subscribe = None

    def _socket(self) -> socket.socket | None:
        sock = self.client.socket()
        # paho may also return a WebSocket wrapper; this link is plain TCP or TLS.
        return sock if isinstance(sock, socket.socket) and sock.fileno() >= 0 else None

    def read_and_write(self) -> bool:
        """Reads and writes what can be read and written without waiting. Returns whether the connection is
        still open."""
        for _ in range(100):
            sock = self._socket()
            if sock is None:
                return False
            pending = getattr(sock, "pending", None)
            if not (pending and pending()) and not select.select([sock], [], [], 0)[0]:
                break
            self.client.loop_read()
        while (sock := self._socket()) is not None and self.client.want_write():
            if not select.select([], [sock], [], 0)[1]:
                break
            self.client.loop_write()
        self.client.loop_misc()
        return self.client.socket() is not None

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._reason = reason
        if reason.is_failure:
            return
        if self._v5:
            self.limits = read_limits(properties)
        if self._subscriptions.topics:
            plain = self._subscriptions.without_wildcards
            self._asked = self._subscriptions.topics if self.limits.has_wildcards or not plain else plain
            client.subscribe([(topic, 1) for topic in self._asked])

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.ended_by = reason
        self._is_silent = not flags.is_disconnect_packet_from_server and reason.value == KEEPALIVE_TIMEOUT

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.refused.add(mid)
            self.refusal = f"the broker refuses what the line publishes: {reason}; see the broker's ACL"
        else:
            self.acknowledged.add(mid)
            if reason.value == _NO_MATCHING_SUBSCRIBERS:
                self.unheard.add(mid)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self.received.append(Received(message.topic, bytes(message.payload), message.retain))

    @staticmethod
    def _on_socket_open(client: paho.Client, userdata: Any, sock: Any) -> None:
        # Without this option the kernel delays the second of two small messages until the first has been
        # acknowledged (Nagle's algorithm).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_subscribe(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        self._subscribed = True
        self.unreadable = [
            topic for topic, reason in zip(self._asked, reasons, strict=False) if reason.is_failure
        ]
        if missing := [topic for topic in self.unreadable if topic not in self._subscriptions.optional]:
            self.refusal = (
                f"the broker does not let the line receive {', '.join(missing)}; see the broker's ACL"
            )


def open_client(
    settings: MqttSettings,
    client_id: str,
    will: Will | None,
    subscriptions: Subscriptions,
    *,
    diagnose: bool = False,
) -> BrokerClient:
    """A connected client. Where the broker does not take the Will, a plainer one is offered: not retained,
    then with a shorter payload. Raises ConnectError."""
    first: ConnectError | None = None
    forms = make_will_forms(will)
    while forms:
        client = BrokerClient(settings, client_id, forms[0], subscriptions)
        try:
            client.connect(diagnose=diagnose and first is None)
        except ConnectError as error:
            client.free_client()
            first = first or error.copy()
            forms = choose_forms(forms[1:], error)
        else:
            return client
    raise first or ConnectError("connecting to the broker ended without a result")


def make_will_forms(will: Will | None) -> Sequence[Will | None]:
    """The Will and its plainer forms, the best first."""
    if will is None:
        return [None]
    short = replace(will, payload=will.short_payload) if will.short_payload is not None else None
    plain = [will, replace(will, retain=False)]
    return plain + ([short, replace(short, retain=False)] if short is not None else [])


def choose_forms(left: Sequence[Will | None], error: ConnectError) -> Sequence[Will | None]:
    """The forms of the Will that may help after this error, the best first."""
    wills = [form for form in left if form is not None]
    if error.code == RETAIN_NOT_SUPPORTED:
        return [will for will in wills if not will.retain]
    if error.code == PACKET_TOO_LARGE:
        return [will for will in wills if will.payload == wills[-1].payload]
    # A broker with MQTT 3.1.1 gives no reason: it closes the connection.
    return wills if error.is_closed and error.code is None else []
