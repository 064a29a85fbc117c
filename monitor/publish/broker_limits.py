"""What a broker can do less of than MQTT allows, as it says in its CONNACK: pure functions.

It knows nothing of connections. MQTT 3.1.1 brokers announce nothing: their limits are then unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST_UNACKNOWLEDGED = 20
"""The most QoS 1 messages that may wait for the broker's acknowledgement. A broker can set a lower limit, its
receive maximum (MQTT 5, 3.3.4); Mosquitto's default is 20."""


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """The properties of a CONNACK (MQTT 5, 3.2.2.3) that concern the line."""

    receive_maximum: int = MOST_UNACKNOWLEDGED
    maximum_qos: int = 2
    retains: bool = True
    """Whether the broker keeps retained messages."""
    packet_bytes: int | None = None
    """The largest packet that it takes; None where it names none."""
    keepalive_s: int | None = None
    """The keepalive that it sets in place of the line's; None where it sets none."""
    has_wildcards: bool = True
    """Whether it takes subscriptions with wildcards."""


def read_limits(properties: Any) -> BrokerLimits:
    """The limits in the properties of a CONNACK; None or empty properties have none."""
    maximum = getattr(properties, "ReceiveMaximum", MOST_UNACKNOWLEDGED)
    return BrokerLimits(
        receive_maximum=max(1, min(MOST_UNACKNOWLEDGED, maximum)),
        maximum_qos=getattr(properties, "MaximumQoS", 2),
        retains=bool(getattr(properties, "RetainAvailable", 1)),
        packet_bytes=getattr(properties, "MaximumPacketSize", None),
        keepalive_s=getattr(properties, "ServerKeepAlive", None),
        has_wildcards=bool(getattr(properties, "WildcardSubscriptionAvailable", 1)),
    )


def measure_publish(
    topic: str, payload_bytes: int, *, qos: int = 1, expires: bool = False, protocol: int = 5
) -> int:
    """The bytes of a PUBLISH packet (MQTT 5, 3.3)."""
    remaining = 2 + len(topic.encode()) + (2 if qos else 0) + payload_bytes
    if protocol == 5:
        remaining += 1 + (5 if expires else 0)
    length_bytes = 1 + sum(remaining >= 128**power for power in (1, 2, 3))
    return 1 + length_bytes + remaining


def find_unusable(limits: BrokerLimits, needed_bytes: int) -> str | None:
    """Why the line can't work with such a broker, with the fix; None when it can. `needed_bytes` is the size
    of the largest packet that can't be made shorter."""
    if limits.maximum_qos < 1:
        return (
            "takes messages with QoS 0 only, so that a lost reject would go unnoticed; allow QoS 1 at the "
            "broker (Mosquitto: max_qos 1 or 2)"
        )
    if limits.packet_bytes is not None and limits.packet_bytes < needed_bytes:
        return (
            f"takes packets of at most {limits.packet_bytes} bytes, but the shortest verdict needs "
            f"{needed_bytes}; raise the limit at the broker (Mosquitto: max_packet_size)"
        )
    return None


def describe_limits(limits: BrokerLimits, largest_bytes: int, keepalive_s: int) -> list[str]:
    """What the line does otherwise at such a broker, a line each. `largest_bytes` is the size of the largest
    verdict, `keepalive_s` what the line asked for."""
    found = []
    if not limits.retains:
        found.append(
            "keeps no retained messages: the line repeats its status and its recipes every second, and no "
            "Will is kept for a gateway that comes later; allow retained messages at the broker (Mosquitto: "
            "retain_available true)"
        )
    if limits.packet_bytes is not None and limits.packet_bytes < largest_bytes:
        found.append(
            f"takes packets of at most {limits.packet_bytes} bytes, but the largest verdict has "
            f"{largest_bytes}: fields that no gateway needs are left out of long messages; raise the limit "
            "at the broker (Mosquitto: max_packet_size)"
        )
    if limits.receive_maximum < 4:
        found.append(
            f"lets {limits.receive_maximum} unacknowledged messages wait, so that verdicts queue at high "
            "rates; raise its receive maximum to 20 (Mosquitto: max_inflight_messages)"
        )
    if limits.keepalive_s is not None and (limits.keepalive_s == 0 or limits.keepalive_s > keepalive_s):
        gone = f"only after {1.5 * limits.keepalive_s:g} s" if limits.keepalive_s else "perhaps never"
        found.append(
            f"sets the keepalive to {limits.keepalive_s} s in place of mqtt.keepalive_s = {keepalive_s}: it "
            f"reports a dead line as offline {gone}; let the broker take the client's keepalive"
        )
    if not limits.has_wildcards:
        found.append(
            "takes no subscriptions with wildcards: a recipe request for a camera that the line does not "
            "have gets no answer"
        )
    return found
