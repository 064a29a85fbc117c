"""The publisher's link to the broker: one paho client for each connection.

It knows nothing of verdicts. On a frame's way it stands between a verdict's delivery and the broker.

A paho client sends every unacknowledged message again after it has connected again, and queues messages
without a bound while it is offline. A reject that is sent too late can remove the wrong part. So each client
is dropped with all its messages when its connection ends, and `monitor.publish.delivery` decides what is sent
on the next connection. Without a connection this module must never hold a message.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from monitor.errors import LineMonitorError
from monitor.settings import MqttSettings

_CONNECT_S = 3.0
_RETRY_NS = 500_000_000
_MOST_UNACKNOWLEDGED = 20
"""The most QoS 1 messages that may wait for the broker's acknowledgement. A broker can set a lower limit, its
receive maximum (MQTT 5, 3.3.4); Mosquitto's default is 20."""

_NO_MATCHING_SUBSCRIBERS = 0x10
"""MQTT 5, 3.4.2.1: the broker took the message while no client was subscribed. Reporting it is optional."""


class LinkState(Enum):
    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


class ConnectError(LineMonitorError):
    """The broker can't be reached or refuses the connection. The message is one line with the fix."""


class PublishRefused(LineMonitorError):
    """The broker takes the connection but does not let the line publish."""


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


class _Connection:
    """The client of one TCP connection, and what it has received since the link last took it."""

    def __init__(
        self, settings: MqttSettings, client_id: str, will: Will | None, topics: tuple[str, ...]
    ) -> None:
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.unheard: set[int] = set()
        self.received: list[Received] = []
        self.refusal = ""
        self.receive_maximum = _MOST_UNACKNOWLEDGED
        self._settings, self._topics = settings, topics
        self._v5 = settings.protocol == 5
        self._reason: ReasonCode | None = None
        self._subscribed = not topics
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
            self.client.will_set(will.topic, will.payload, qos=1, retain=True)
        if settings.username is not None:
            password = settings.password.get_secret_value() if settings.password else None
            self.client.username_pw_set(settings.username, password)
        self.client.on_connect = self._on_connect
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        self.client.on_socket_open = self._on_socket_open

    def connect(self) -> None:
        """Connects and subscribes. Blocks for at most three times the connect timeout of 3 s: for TCP,
        CONNACK and SUBACK. Name resolution and the TLS handshake come on top. Raises ConnectError."""
        where = f"{self._settings.host}:{self._settings.port}"
        try:
            if self._settings.ca_file or self._settings.cert_file:
                self.client.tls_set(
                    ca_certs=str(self._settings.ca_file) if self._settings.ca_file else None,
                    certfile=str(self._settings.cert_file) if self._settings.cert_file else None,
                    keyfile=str(self._settings.key_file) if self._settings.key_file else None,
                )
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
        except ssl.SSLError as error:
            raise ConnectError(
                f"broker {where}: TLS failed: {error}; check mqtt.ca_file and the port"
            ) from error
        except socket.gaierror as error:
            raise ConnectError(f"broker {where}: unknown host; check mqtt.host") from error
        except (OSError, ValueError) as error:
            raise ConnectError(
                f"broker {where} can't be reached: {error}; start it, or set mqtt.host and mqtt.port"
            ) from error
        self._loop_until(lambda: self._reason is not None)
        if self._reason is None:
            self.abort()
            hint = "; for an MQTT 3.1.1 broker set mqtt.protocol = 4" if self._v5 else ""
            raise ConnectError(f"broker {where} does not answer CONNECT{hint}")
        if self._reason.is_failure:
            self.abort()
            fixes = {
                "Unsupported protocol version": "set mqtt.protocol = 4",
                "Not authorized": "check mqtt.username and password",
                "Bad user name or password": "check mqtt.username and password",
            }
            fix = fixes.get(str(self._reason), "see the broker's log")
            raise ConnectError(f"broker {where} refuses the connection: {self._reason}; {fix}")
        # Waits at most 3 s for SUBACK. The connection is used without it, but may then not receive the
        # gateway's messages yet.
        self._loop_until(lambda: self._subscribed)

    def await_acknowledgement(self) -> None:
        """Waits until the broker has acknowledged or refused a message, for at most the connect timeout."""
        self._loop_until(lambda: bool(self.acknowledged or self.refused))

    def _loop_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + _CONNECT_S
        while not condition() and time.monotonic() < until:
            if self.client.loop(0.05) != paho.MQTT_ERR_SUCCESS:
                break

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
        client.on_connect = client.on_publish = client.on_message = client.on_subscribe = None

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
        maximum = getattr(properties, "ReceiveMaximum", _MOST_UNACKNOWLEDGED)
        self.receive_maximum = max(1, min(_MOST_UNACKNOWLEDGED, maximum))
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])

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
        if any(reason.is_failure for reason in reasons):
            self.refusal = (
                "the broker does not let the line receive acks, resets and changeovers; see the broker's ACL"
            )


def probe(settings: MqttSettings, client_id: str, topic: str | None = None) -> None:
    """Connects once, without a Will, and disconnects. With a topic, it publishes `{}` there, which expires
    after 1 s with MQTT 5 and never with MQTT 3.1.1. Raises ConnectError, and PublishRefused where the broker
    does not let the line publish there, which only MQTT 5 reports."""
    connection = _Connection(settings, client_id, None, ())
    connection.connect()
    if topic is not None:
        properties = None
        if settings.protocol == 5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = 1
        connection.client.publish(topic, b"{}", qos=1, properties=properties)
        connection.await_acknowledgement()
    connection.client.disconnect()
    connection.read_and_write()
    if connection.refused:
        raise PublishRefused(f"does not let us publish {topic}; see its ACL")


class Link:
    """The link over all its connections. No method blocks: a separate thread connects."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        will: Callable[[], Will],
        topics: tuple[str, ...],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.state = LinkState.DOWN
        self.trouble = ""
        """Why there is no connection, in one line."""
        self.generation = 0
        """The number of the present connection. What was sent over an earlier one and not acknowledged may be
        lost."""
        self._settings, self._client_id, self._will, self._topics = settings, client_id, will, topics
        self._clock = clock
        self._connection: _Connection | None = None
        self._attempt: list[_Connection | ConnectError] = []
        self._thread: threading.Thread | None = None
        self._retry_ns = 0
        self._unacknowledged: set[int] = set()

    def step(self) -> None:
        """Starts a connection attempt or takes its result; on a connection, reads and writes what is possible
        without waiting."""
        if self.state is LinkState.DOWN and self._clock() >= self._retry_ns:
            self.state = LinkState.CONNECTING
            self._attempt = []
            self._thread = threading.Thread(target=self._connect, args=(self._attempt,), daemon=True)
            self._thread.start()
        elif self.state is LinkState.CONNECTING and self._thread and not self._thread.is_alive():
            outcome = (
                self._attempt[0]
                if self._attempt
                else ConnectError("connecting to the broker ended without a result")
            )
            if isinstance(outcome, _Connection):
                self._connection, self.state, self.trouble = outcome, LinkState.UP, ""
                self.generation += 1
                self._unacknowledged.clear()
            else:
                self._end_connection(str(outcome))
        elif self.state is LinkState.UP and self._connection and not self._connection.read_and_write():
            self._end_connection(
                f"broker {self._settings.host}:{self._settings.port} closed or lost the connection"
            )

    def socket(self) -> Any | None:
        """The socket to poll for reading; None without a connection."""
        return self._connection.client.socket() if self._connection else None

    def room(self, reserved: int = 1) -> int:
        """The number of QoS 1 messages that may be sent now without exceeding the broker's receive maximum.

        `reserved` of them are kept free for the status, unless the receive maximum is `reserved` or lower.
        """
        if self.state is not LinkState.UP or self._connection is None:
            return 0
        maximum = self._connection.receive_maximum
        return maximum - len(self._unacknowledged) - (reserved if maximum > reserved else 0)

    def spare_room(self) -> int:
        """The number of QoS 1 messages that may be sent now and leave half of the broker's receive maximum to
        messages that must not wait. One is allowed where the receive maximum is 1."""
        if self.state is not LinkState.UP or self._connection is None:
            return 0
        return max(1, self._connection.receive_maximum // 2) - len(self._unacknowledged)

    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, ttl_ms: int | None = None
    ) -> int | None:
        """Hands a message to the connection; returns its message id, or None where there is no connection.

        `ttl_ms` becomes the MQTT 5 message expiry in whole seconds, rounded up. That is only a second
        safeguard: the caller checks the time to live just before sending.
        """
        if self.state is not LinkState.UP or self._connection is None:
            return None
        properties = None
        if ttl_ms is not None and self._settings.protocol == 5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, math.ceil(ttl_ms / 1000))
        info = self._connection.client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            self.drop("the connection broke while sending")
            return None
        if qos:
            self._unacknowledged.add(info.mid)
        return info.mid

    def has_unacknowledged(self) -> bool:
        """Whether a message with QoS 1 waits for the broker's acknowledgement."""
        return bool(self._unacknowledged)

    def take_acknowledged(self) -> set[int]:
        """The ids of the messages that the broker has acknowledged (PUBACK) since the last call."""
        if self._connection is None:
            return set()
        taken, self._connection.acknowledged = self._connection.acknowledged, set()
        self._unacknowledged -= taken | self._connection.refused
        return taken

    def take_refused(self) -> set[int]:
        """The ids of the messages that the broker has refused (PUBACK with a failure) since the last call."""
        if self._connection is None:
            return set()
        taken, self._connection.refused = self._connection.refused, set()
        return taken

    def take_unheard(self) -> set[int]:
        """The ids of the acknowledged messages to whose topic no client was subscribed, since the last
        call."""
        if self._connection is None:
            return set()
        taken, self._connection.unheard = self._connection.unheard, set()
        return taken

    def take_received(self) -> list[Received]:
        """The messages that came since the last call."""
        if self._connection is None:
            return []
        taken, self._connection.received = self._connection.received, []
        return taken

    def refusal(self) -> str:
        """The broker's last refusal to let the line publish or receive, in one line; empty without one."""
        return self._connection.refusal if self._connection else ""

    def drop(self, why: str) -> None:
        """Ends a connection that is no longer reliable. The broker then publishes the Will."""
        if self._connection is not None:
            self._connection.abort()
            self._end_connection(why)

    def close(self) -> None:
        """Disconnects in order: the broker then does not publish the Will."""
        if self._connection is not None:
            self._connection.client.disconnect()
            self._connection.read_and_write()
            self._connection.free_client()
            self._connection = None
        self.state = LinkState.DOWN
        self._retry_ns = self._clock() + 3_600_000_000_000

    def _connect(self, outcome: list[_Connection | ConnectError]) -> None:
        connection = _Connection(self._settings, self._client_id, self._will(), self._topics)
        try:
            connection.connect()
        except ConnectError as error:
            connection.free_client()
            # A new error, because the traceback of this one refers to the connection and would keep it in
            # memory.
            outcome.append(ConnectError(str(error)))
        else:
            outcome.append(connection)

    def _end_connection(self, why: str) -> None:
        if self._connection is not None:
            self._connection.free_client()
        self._connection = None
        self._unacknowledged.clear()
        self.trouble = why
        self.state = LinkState.DOWN
        self._retry_ns = self._clock() + _RETRY_NS
