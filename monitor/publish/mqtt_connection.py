"""The publisher's link to the broker: one paho client for each connection.

It knows nothing of verdicts. On a frame's way it stands between a verdict's delivery and the broker.

A paho client sends every unacknowledged message again after it has connected again, and queues messages
without a bound while it is offline. A reject that is sent too late can remove the wrong part. So each client
is dropped with all its messages when its connection ends, and `monitor.publish.delivery` decides what is sent
on the next connection. Without a connection this module must never hold a message.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from monitor.publish.broker_client import (
    SESSION_TAKEN_OVER,
    BrokerClient,
    ConnectError,
    Received,
    Subscriptions,
    Will,
    open_client,
)
from monitor.publish.broker_limits import describe_limits, find_unusable, measure_publish
from monitor.publish.other_session import Suspicion
from monitor.settings import MqttSettings

_RETRY_NS = 500_000_000
_SHORT_NS = 5_000_000_000
"""A connection that the broker ends within 5 s of its start is short. After two short ones in a row another
client may use this client id: a broker with MQTT 3.1.1 gives no reason."""


class LinkState(Enum):
    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


class SpeechGuard(Protocol):
    """What the link needs of `monitor.publish.other_session.OtherSessionGuard`."""

    def wait_until_free(
        self,
        report: Callable[[str], None],
        is_closed: Callable[[], bool],
        suspicion: Suspicion,
        *,
        diagnose: bool,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class PacketNeeds:
    """The sizes of a line's largest packets in bytes."""

    shortest: int = 0
    """Without what can be left out: a broker that takes less can't be used."""
    largest: int = 0
    """In full."""


class Link:
    """The link over all its connections. No method blocks: a separate thread connects."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        will: Callable[[], Will],
        subscriptions: Subscriptions,
        clock: Callable[[], int] = time.monotonic_ns,
        guard: SpeechGuard | None = None,
        listens_first: bool = False,
        needs: PacketNeeds = PacketNeeds(),
    ) -> None:
        """The link waits for the `guard` before it connects again after another client seems to have used its
        client id; with `listens_first` also before the first connection."""
        self.state = LinkState.DOWN
        self.trouble = ""
        """Why there is no connection, in one line."""
        self.generation = 0
        """The number of the present connection. What was sent over an earlier one and not acknowledged may be
        lost."""
        self.limitations: tuple[str, ...] = ()
        """What the line does otherwise because of the broker's limits, a line each."""
        self._settings, self._client_id, self._will, self._needs = settings, client_id, will, needs
        self._subscriptions, self._clock, self._guard = subscriptions, clock, guard
        self.must_listen = listens_first and guard is not None
        """Whether the link waits for the guard before its next connection."""
        self._suspicion = Suspicion.NONE
        self._short_connections = 0
        """How many connections in a row the broker ended soon after their start."""
        self._diagnosed: ConnectError | None = None
        """The last trouble whose cause was searched for, before the first connection."""
        self._connection: BrokerClient | None = None
        self._connected_ns = 0
        self._attempt: list[BrokerClient | ConnectError] = []
        self._thread: threading.Thread | None = None
        self._retry_ns = 0
        self._is_closed = False
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
            if isinstance(outcome, BrokerClient):
                self._use(outcome)
            else:
                self._end_connection(str(outcome))
        elif self.state is LinkState.UP and self._connection and not self._connection.read_and_write():
            self._end_connection(self._explain_end(self._connection))

    def _use(self, connection: BrokerClient) -> None:
        self._connection, self.state, self.trouble = connection, LinkState.UP, ""
        self._connected_ns = self._clock()
        self.must_listen, self._diagnosed = False, None
        self.generation += 1
        self._unacknowledged.clear()
        found = describe_limits(connection.limits, self._needs.largest, self._settings.keepalive_s)
        self.limitations = tuple(f"{connection.where} {what}" for what in found)

    def _explain_end(self, connection: BrokerClient) -> str:
        """Why the broker ended the connection. Decides whether the guard is asked before the next one."""
        is_short = self._clock() - self._connected_ns < _SHORT_NS
        self._short_connections = self._short_connections + 1 if is_short else 0
        reason = connection.ended_by.value if connection.ended_by is not None else None
        self._suspicion = Suspicion.NONE
        if reason == SESSION_TAKEN_OVER:
            self._suspicion = Suspicion.TAKEN_OVER
        elif reason is None and self._short_connections >= 2:
            self._suspicion = Suspicion.SHORT
        self.must_listen = self._guard is not None and self._suspicion is not Suspicion.NONE
        why = connection.explain_end()
        if reason is None and self._short_connections >= 2:
            why += (
                f" again at once: another client may use the client id {self._client_id}, or the broker does "
                "not take what the line sends; see its log, and run line-monitor check"
            )
        return why

    def socket(self) -> Any | None:
        """The socket to poll for reading; None without a connection."""
        return self._connection.client.socket() if self._connection else None

    def room(self, reserved: int = 1) -> int:
        """The number of QoS 1 messages that may be sent now without exceeding the broker's receive maximum.

        `reserved` of them are kept free for the status, unless the receive maximum is `reserved` or lower.
        """
        if self.state is not LinkState.UP or self._connection is None:
            return 0
        maximum = self._connection.limits.receive_maximum
        return maximum - len(self._unacknowledged) - (reserved if maximum > reserved else 0)

    def spare_room(self) -> int:
        """The number of QoS 1 messages that may be sent now and leave half of the broker's receive maximum to
        messages that must not wait. One is allowed where the receive maximum is 1."""
        if self.state is not LinkState.UP or self._connection is None:
            return 0
        return max(1, self._connection.limits.receive_maximum // 2) - len(self._unacknowledged)

    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, ttl_ms: int | None = None
    ) -> int | None:
        """Hands a message to the connection; returns its message id. None where there is no connection, and
        for a message that is larger than what the broker takes: the broker would end the connection.

        `ttl_ms` becomes the MQTT 5 message expiry in whole seconds, rounded up. That is only a second
        safeguard: the caller checks the time to live just before sending.
        """
        if self.state is not LinkState.UP or self._connection is None:
            return None
        retain = retain and self.keeps_retained
        most = self.payload_room(topic, qos=qos, expires=ttl_ms is not None)
        if most is not None and len(payload) > most:
            self._connection.refusal = (
                f"{self._connection.where} takes packets of at most {self._connection.limits.packet_bytes} "
                f"bytes: a message on {topic} can't be sent; raise the limit at the broker "
                "(Mosquitto: max_packet_size)"
            )
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

    @property
    def keeps_retained(self) -> bool:
        """Whether the broker keeps retained messages. Where it does not, they are to be repeated."""
        return self._connection is None or self._connection.limits.retains

    def payload_room(self, topic: str, *, qos: int = 1, expires: bool = False) -> int | None:
        """The bytes of payload that the broker takes in a message on that topic; None is no limit."""
        most = self._connection.limits.packet_bytes if self._connection else None
        if most is None:
            return None
        empty = (
            measure_publish(topic, most, qos=qos, expires=expires, protocol=self._settings.protocol) - most
        )
        return max(0, most - empty)

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
        self._is_closed = True
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
        self.state = LinkState.DOWN
        self._retry_ns = self._clock() + 3_600_000_000_000

    def _connect(self, outcome: list[BrokerClient | ConnectError]) -> None:
        """Runs on a thread of its own."""
        # Mistakes in the settings show before the first connection. The search for one takes seconds, in
        # which the broker may come: it is done once for each kind of trouble.
        diagnose = self.generation == 0 and self._diagnosed is None
        try:
            if self.must_listen and self._guard is not None:
                self._guard.wait_until_free(
                    self._report_trouble, lambda: self._is_closed, self._suspicion, diagnose=diagnose
                )
                self._suspicion = Suspicion.NONE
            if self._is_closed:
                # A connection now would end that of another line.
                raise ConnectError("the link is closed")
            connection = open_client(
                self._settings,
                self._client_id,
                self._will(),
                self._subscriptions,
                diagnose=diagnose,
            )
            if why := find_unusable(connection.limits, self._needs.shortest):
                connection.disconnect()
                raise ConnectError(f"{connection.where} {why}")
        except ConnectError as error:
            outcome.append(self._recall_diagnosis(error, diagnose))
        else:
            outcome.append(connection)

    def _recall_diagnosis(self, error: ConnectError, diagnosed: bool) -> ConnectError:
        """The error, in the words of the search for its cause if the same trouble was searched before."""
        if diagnosed:
            self._diagnosed = error.copy()
        elif self._diagnosed is not None and (error.kind, error.code) != (
            self._diagnosed.kind,
            self._diagnosed.code,
        ):
            self._diagnosed = None
        return (self._diagnosed or error).copy()

    def _report_trouble(self, trouble: str) -> None:
        self.trouble = trouble

    def _end_connection(self, why: str) -> None:
        if self._connection is not None:
            self._connection.free_client()
        self._connection = None
        self._unacknowledged.clear()
        self.trouble = why
        self.state = LinkState.DOWN
        self._retry_ns = self._clock() + _RETRY_NS
