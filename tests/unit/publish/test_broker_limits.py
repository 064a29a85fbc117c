"""What a broker can do less of is read from its CONNACK, and each lack is told with the fix."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from monitor.publish.broker_limits import (
    BrokerLimits,
    describe_limits,
    find_unusable,
    measure_publish,
    read_limits,
)


def test_a_connack_without_properties_has_no_limits() -> None:
    for properties in (None, Properties(PacketTypes.CONNACK)):
        assert read_limits(properties) == BrokerLimits()
    assert find_unusable(BrokerLimits(), 300) is None
    assert describe_limits(BrokerLimits(), 700, 3) == []


def test_the_limits_are_read() -> None:
    properties = SimpleNamespace(
        ReceiveMaximum=1,
        MaximumQoS=0,
        RetainAvailable=0,
        MaximumPacketSize=400,
        ServerKeepAlive=30,
        WildcardSubscriptionAvailable=0,
    )
    assert read_limits(properties) == BrokerLimits(1, 0, False, 400, 30, False)
    assert read_limits(SimpleNamespace(ReceiveMaximum=65535)).receive_maximum == 20


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (BrokerLimits(maximum_qos=0), "max_qos 1 or 2"),
        (BrokerLimits(packet_bytes=299), "the shortest verdict needs 300; raise the limit"),
    ],
)
def test_a_broker_that_cant_be_used_is_told_with_the_fix(limits: BrokerLimits, words: str) -> None:
    assert words in (find_unusable(limits, 300) or "")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (BrokerLimits(retains=False), "retain_available true"),
        (BrokerLimits(packet_bytes=699), "packets of at most 699 bytes, but the largest verdict has 700"),
        (BrokerLimits(receive_maximum=1), "max_inflight_messages"),
        (BrokerLimits(keepalive_s=60), "offline only after 90 s"),
        (BrokerLimits(keepalive_s=0), "offline perhaps never"),
        (BrokerLimits(has_wildcards=False), "wildcards"),
    ],
)
def test_what_the_line_does_otherwise_is_told(limits: BrokerLimits, words: str) -> None:
    assert find_unusable(limits, 300) is None
    (told,) = describe_limits(limits, 700, 3)
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "limits", [BrokerLimits(packet_bytes=700), BrokerLimits(receive_maximum=4), BrokerLimits(keepalive_s=2)]
)
def test_a_limit_that_changes_nothing_is_not_told(limits: BrokerLimits) -> None:
    assert describe_limits(limits, 700, 3) == []


@given(
    topic=st.text("ab/", min_size=1, max_size=100),
    payload=st.integers(0, 20_000),
    qos=st.sampled_from([0, 1]),
    expires=st.booleans(),
    protocol=st.sampled_from([4, 5]),
)
def test_the_size_of_a_packet_is_that_of_the_packet_that_is_sent(
    topic: str, payload: int, qos: int, expires: bool, protocol: int
) -> None:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5 if protocol == 5 else paho.MQTTv311
    )
    properties = None
    if protocol == 5:
        properties = Properties(PacketTypes.PUBLISH)
        if expires:
            properties.MessageExpiryInterval = 1
    # As if connected, with a thread that writes: the packet stays in the queue.
    client._sock = client._thread = object()  # type: ignore[assignment]
    client._send_publish(1, topic.encode(), b"x" * payload, qos, properties=properties)
    packet = client._out_packet[-1]["packet"]
    client._sock = client._thread = None
    assert len(packet) == measure_publish(topic, payload, qos=qos, expires=expires, protocol=protocol)
