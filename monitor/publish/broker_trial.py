"""Tries at the broker what a running line needs, for `line-monitor check`.

It knows nothing of cameras and frames. It uses a client id of its own and the topics `P/check/<camera>/...`,
to which no gateway subscribes, and sends no message there that says `pass`.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

import msgspec

from monitor.publish.broker_client import BrokerClient, ConnectError, Subscriptions, Will, open_client
from monitor.publish.broker_limits import describe_limits, find_unusable, measure_publish
from monitor.publish.other_session import make_client_id
from monitor.publish.short_payload import VERDICT_EXTRAS, encode_short, make_largest_event, measure_verdicts
from monitor.settings import Settings
from monitor.verdict import SCHEMA

_ECHO_S = 1.5
_EXPIRY_S, _RETAINED_S = 1.2, 0.3
"""The wait until a message that expires after 1 s has expired, and for a retained one after subscribing."""


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """What the broker does not do for the line, in one line with the fix."""

    text: str
    is_fatal: bool
    """The line can't work with the broker as it is."""
    is_untried: bool = False
    """Whether the broker takes what a line publishes could not be tried."""


class BrokerTrial:
    """One trial. `publishes`: also whether the broker takes what a line publishes."""

    def __init__(self, settings: Settings, *, publishes: bool) -> None:
        self._settings, self._publishes = settings, publishes
        self._session = str(uuid.uuid4())
        self._client_id = make_client_id(settings, "c", uuid.uuid4().hex[:4])
        self._event = make_largest_event(settings, self._session)
        self._all = f"{settings.prefix}/check/#"
        self._status = f"{settings.prefix}/check/{self._event.camera}/status"
        self._verdict = f"{settings.prefix}/check/{self._event.camera}/verdict"

    def run(self) -> list[Shortcoming]:
        """The shortcomings of the broker; none when a line can use it. Raises ConnectError."""
        settings = self._settings
        payload = self._make_status()
        client = open_client(
            settings.mqtt,
            self._client_id,
            Will(self._status, payload, short_payload=self._make_status(short=True)),
            Subscriptions(self._topics_to_read(), (f"{settings.prefix}/reset", self._verdict)),
            diagnose=True,
        )
        largest, shortest = measure_verdicts(settings, self._session)
        if why := find_unusable(client.limits, shortest):
            client.disconnect()
            raise ConnectError(f"{client.where} {why}")
        found = [
            Shortcoming(f"{client.where} {what}", is_fatal=False)
            for what in describe_limits(client.limits, largest, settings.mqtt.keepalive_s)
        ]
        if unreadable := [topic for topic in client.unreadable if topic != self._all]:
            what = f"does not let us receive {', '.join(unreadable)}"
            found.append(self._blame_acl(client, what))
        if self._publishes:
            found += self._try_publishing(client)
        if client.is_open:
            client.disconnect()
        return found

    def _topics_to_read(self) -> tuple[str, ...]:
        kinds = ["reset", "+/ack", "+/recipe/set", "heartbeat"]
        if self._settings.recipes.sets:
            kinds.append("recipe/set")
        if self._publishes:
            kinds.append("check/#")
        return tuple(f"{self._settings.prefix}/{kind}" for kind in kinds)

    def _try_publishing(self, client: BrokerClient) -> list[Shortcoming]:
        """A retained message, which is cleared again, and the largest verdict."""
        began = time.monotonic()
        found = self._publish_all(client)
        if client.limits.retains:
            try:
                self._clear_retained(client, began + _EXPIRY_S)
            except ConnectError as error:
                text = f"a retained message may be left on {self._status}: {error}"
                found.append(Shortcoming(text, is_fatal=False))
        return found

    def _publish_all(self, client: BrokerClient) -> list[Shortcoming]:
        keeps = client.limits.retains
        verdict = self._make_verdict(client.limits.packet_bytes)
        for what, topic, payload in (
            ("a retained message" if keeps else "a message", self._status, self._make_status()),
            ("a verdict", self._verdict, verdict),
        ):
            retain = keeps and topic == self._status
            mid = client.publish_and_wait(topic, payload, retain=retain, expires=True)
            if mid in client.refused:
                what = f"refuses what we publish on {topic} ({client.refusal})"
                return [self._explain_untried(client, what)]
            if mid not in client.acknowledged:
                return [self._explain_lost(client, what, len(payload))]
        if client.wait_for(lambda: self._has_come_back(client, self._verdict), _ECHO_S):
            return []
        if self._has_come_back(client, self._status):
            text = (
                f"{client.where} acknowledges a verdict of {len(verdict)} bytes and drops it: raise its "
                "limit for the size of a message (Mosquitto: message_size_limit), or set mqtt.protocol = 5"
            )
            return [Shortcoming(text, is_fatal=True)]
        # MQTT 3.1.1 does not report a refused message. With MQTT 5 it is known that the broker took it.
        is_known = self._settings.mqtt.protocol == 5
        what = "does not let us receive" if is_known else "does not let us publish or receive"
        what += f" {self._all}: what we published there did not come back"
        return [self._explain_untried(client, what)]

    def _explain_untried(self, client: BrokerClient, what: str) -> Shortcoming:
        """The line itself never uses these topics: an account may be without them, and the line runs well."""
        text = (
            f"{client.where.removeprefix('broker ')} {what}; so what the line publishes could not be tried: "
            f"see its ACL, and let the line's account write and read {self._all}, as in "
            "config/mosquitto-acl-example"
        )
        return Shortcoming(text, is_fatal=False, is_untried=True)

    def _has_come_back(self, client: BrokerClient, topic: str) -> bool:
        return any(message.topic == topic for message in client.received)

    def _is_retained(self, client: BrokerClient) -> bool:
        return any(message.topic == self._status and message.retained for message in client.received)

    def _explain_lost(self, client: BrokerClient, what: str, size: int) -> Shortcoming:
        """Why the broker did not acknowledge a message."""
        if client.is_open:
            text = f"{client.where} does not acknowledge {what} with QoS 1 within 3 s; see the broker's log"
        elif client.ended_by is not None:
            text = f"{client.explain_end()}: it takes no message such as {what} of {size} bytes"
        else:
            text = (
                f"{client.where} closes the connection on {what} of {size} bytes with QoS 1: it may take "
                "only smaller packets, no retained messages or only QoS 0; see the broker's log"
            )
        return Shortcoming(text, is_fatal=True)

    def _blame_acl(self, client: BrokerClient, what: str) -> Shortcoming:
        return Shortcoming(
            f"{client.where.removeprefix('broker ')} {what}; see its ACL: config/mosquitto-acl-example is an "
            "example",
            is_fatal=True,
        )

    def _clear_retained(self, client: BrokerClient, expired_at: float) -> None:
        """Removes the retained message; after an abrupt end that is the Will, which came in its place. With
        MQTT 5 it expires by itself: an empty message would reach every subscriber of `P/#`."""
        if client.is_open and self._settings.mqtt.protocol == 5:
            client.wait_for(lambda: False, max(0.0, expired_at - time.monotonic()))
            client.client.subscribe(self._status, 1)
            if not client.wait_for(lambda: self._is_retained(client), _RETAINED_S):
                return
        if not client.is_open:
            client.free_client()
            client = BrokerClient(self._settings.mqtt, self._client_id, None, Subscriptions())
            client.connect()
            client.publish_and_wait(self._status, b"", retain=True)
            client.disconnect()
            return
        client.publish_and_wait(self._status, b"", retain=True)

    def _make_status(self, *, short: bool = False) -> bytes:
        status = {"schema": SCHEMA, "state": "offline", "ready": False, "reason": "check"}
        return msgspec.json.encode(status if short else {**status, "cameras": {}})

    def _make_verdict(self, packet_bytes: int | None) -> bytes:
        """A verdict as long as one can be, or as the broker takes. It has no session, so that no gateway
        takes it for a line's."""
        payload = self._event.payload(0)
        payload["check"] = payload.pop("session")
        most = None
        if packet_bytes is not None:
            protocol = self._settings.mqtt.protocol
            empty = (
                measure_publish(self._verdict, packet_bytes, expires=True, protocol=protocol) - packet_bytes
            )
            most = packet_bytes - empty
        return encode_short(payload, VERDICT_EXTRAS, most)
