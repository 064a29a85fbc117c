"""A broker that does not take the Will is offered a plainer one, as far as that may help."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest

from monitor.publish.broker_client import (
    BrokerClient,
    ConnectError,
    Subscriptions,
    Will,
    choose_forms,
    make_will_forms,
)
from monitor.settings import MqttSettings

WILL = Will("p/l/status", b'{"state": "offline", "cameras": {}}', b'{"state": "offline"}')
PLAIN = replace(WILL, retain=False)
SHORT = replace(WILL, payload=b'{"state": "offline"}')
PLAIN_SHORT = replace(SHORT, retain=False)


def test_the_best_form_comes_first() -> None:
    assert make_will_forms(WILL) == [WILL, PLAIN, SHORT, PLAIN_SHORT]
    assert make_will_forms(replace(WILL, short_payload=None)) == [
        replace(WILL, short_payload=None),
        replace(PLAIN, short_payload=None),
    ]
    assert make_will_forms(None) == [None]


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (ConnectError("", 0x9A), [PLAIN, PLAIN_SHORT]),
        (ConnectError("", 0x95, is_closed=True), [SHORT, PLAIN_SHORT]),
        (ConnectError("", is_closed=True), [PLAIN, SHORT, PLAIN_SHORT]),
        (ConnectError("", 0x87), []),
        (ConnectError("", 0x9B), []),
        (ConnectError("no TCP connection"), []),
    ],
)
def test_only_forms_that_may_help_are_tried(error: ConnectError, left: list[Will]) -> None:
    assert choose_forms(make_will_forms(WILL)[1:], error) == left


def test_each_refusal_leaves_fewer_forms() -> None:
    codes = (0x9A, 0x95, None)
    forms = make_will_forms(WILL)
    for code in codes * 2:
        assert len(choose_forms(forms[1:], ConnectError("", code, is_closed=True))) < len(forms)


@pytest.mark.parametrize("closes", [True, False])
def test_only_an_end_by_the_other_side_counts_as_closed(closes: bool) -> None:
    """paho closes the connection too, when the other end has been silent for the keepalive."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = BrokerClient(
            MqttSettings(port=server.getsockname()[1], keepalive_s=1), "t", None, Subscriptions()
        )
        taken: list[socket.socket] = []

        def accept() -> None:
            taken.append(server.accept()[0])
            if closes:
                taken[0].recv(100)
                taken[0].close()

        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(ConnectError) as raised:
            client.connect()
        thread.join()
        taken[0].close()
    assert raised.value.is_closed is closes
    assert ("closes the connection" in str(raised.value)) is closes
