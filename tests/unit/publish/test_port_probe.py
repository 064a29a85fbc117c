"""What a port speaks is found out without the settings' help, and without an account."""

from __future__ import annotations

import socket

import pytest

from monitor.publish.broker_client import BrokerClient, ConnectError, Subscriptions
from monitor.publish.port_probe import Speech, find_speech, takes_version
from monitor.settings import MqttSettings
from tests.real.odd_broker import OddBroker, connack
from tests.real.port import free_port

CONNACK_4 = bytes([0x20, 2, 0, 0])


def told(port: int, protocol: int) -> str:
    with pytest.raises(ConnectError) as refused:
        BrokerClient(MqttSettings(port=port, protocol=protocol), "t", None, Subscriptions()).connect(
            diagnose=True
        )
    return str(refused.value)


def test_a_broker_of_another_version_is_told_with_the_version_to_set() -> None:
    with OddBroker(CONNACK_4, only_version=4) as old:
        settings = MqttSettings(port=old.port)
        assert find_speech(settings) is Speech.UNKNOWN
        assert takes_version(settings, 4, None)
        assert not takes_version(settings, 5, None)
        assert "set mqtt.protocol = 4" in told(old.port, 5)
    with OddBroker(connack(), only_version=5) as new:
        assert "set mqtt.protocol = 5" in told(new.port, 4)


def test_a_version_is_not_advised_to_a_port_that_speaks_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = told(silent.getsockname()[1], 5)
    assert "is it an MQTT broker" in line
    assert "protocol" not in line


def test_a_closed_port_speaks_nothing() -> None:
    settings = MqttSettings(port=free_port())
    assert find_speech(settings) is Speech.UNKNOWN
    assert not takes_version(settings, 5, None)


def test_a_connack_that_refuses_for_another_reason_is_mqtt_all_the_same() -> None:
    with OddBroker(connack(0x87)) as broker:
        settings = MqttSettings(port=broker.port)
        assert find_speech(settings) is Speech.MQTT
        assert takes_version(settings, 5, None)
        assert "check mqtt.username and password, which are not set" in told(broker.port, 5)
