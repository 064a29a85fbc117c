"""The broker's reasons are told in one line with what helps."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from monitor.publish import connect_trouble
from monitor.settings import MqttSettings

PLAIN = MqttSettings()
WITH_ACCOUNT = MqttSettings(username="line1")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("Unsupported protocol version", PLAIN, "set mqtt.protocol = 4"),
        ("Unsupported protocol version", MqttSettings(protocol=4), "set mqtt.protocol = 5"),
        ("Not authorized", WITH_ACCOUNT, ": check mqtt.username and password"),
        ("Not authorized", PLAIN, "which are not set"),
        ("Bad user name or password", WITH_ACCOUNT, ": check mqtt.username and password"),
        ("Client identifier not valid", PLAIN, "client ids that begin with line.site"),
        ("Server busy", PLAIN, "overloaded or starting"),
        ("Packet too large", PLAIN, "max_packet_size"),
        ("Retain not supported", PLAIN, "retain_available true"),
        ("QoS not supported", PLAIN, "max_qos"),
        ("Quota exceeded", PLAIN, "quota"),
        ("Banned", PLAIN, "see the broker's log"),
    ],
)
def test_a_refusal_is_told_with_the_fix(name: str, settings: MqttSettings, words: str) -> None:
    told = connect_trouble.explain_reason(ReasonCode(PacketTypes.CONNACK, name), settings)
    assert name in told
    assert words in told
    assert "\n" not in told


def test_a_connection_that_was_taken_over_is_told() -> None:
    told = connect_trouble.explain_reason(ReasonCode(PacketTypes.DISCONNECT, "Session taken over"), PLAIN)
    assert "another client connected with this client id" in told
    assert connect_trouble.explain_reason(None, PLAIN).startswith("gives no reason")


def test_without_a_search_nothing_is_guessed_at() -> None:
    """During a running line a quick retry is better than a search for mistakes in the settings."""
    assert "see the broker's log" in connect_trouble.explain_no_answer(PLAIN, None, True, diagnose=False)
    eof = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    eof.reason, eof.library = "", ""
    told = connect_trouble.explain_tls(eof, MqttSettings(ca_file=Path("ca.crt")), diagnose=False)
    assert "check mqtt.ca_file and the port" in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("_ssl.c:990: The handshake operation timed out"), "does not answer the TLS handshake"),
        (ConnectionResetError(104, "Connection reset by peer"), "breaks off the TLS handshake"),
        (TimeoutError("timed out"), "can't be reached: timed out; start it"),
        (ConnectionRefusedError(111, "Connection refused"), "start it, or set mqtt.host and mqtt.port"),
    ],
)
def test_a_port_that_takes_the_connection_is_not_to_be_started(error: OSError, words: str) -> None:
    with_tls = MqttSettings(ca_file=Path("ca.crt"))
    told = connect_trouble.explain_unreachable(error, with_tls, diagnose=False)
    assert words in told
    assert ("start it" in told) == ("TLS handshake" not in told)
