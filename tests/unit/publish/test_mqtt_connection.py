"""The link searches once for the cause of a trouble, and tries again quickly meanwhile."""

from __future__ import annotations

import time

import pytest

from monitor.publish import mqtt_connection
from monitor.publish.broker_client import ConnectError, Subscriptions, Will
from monitor.publish.mqtt_connection import Link, LinkState
from monitor.settings import MqttSettings


def test_the_cause_of_each_kind_of_trouble_is_searched_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes seconds, in which the broker may come."""
    kinds = ["refused"] * 3 + ["no answer"] * 3
    searched: list[bool] = []

    def fail(*given: object, diagnose: bool) -> None:
        searched.append(diagnose)
        kind = kinds[len(searched) - 1]
        raise ConnectError(f"{kind}: {'the cause' if diagnose else 'see the log'}", kind=kind)

    monkeypatch.setattr(mqtt_connection, "open_client", fail)
    now = 1
    link = Link(MqttSettings(), "t", lambda: Will("p/l/status", b""), Subscriptions(), lambda: now)
    troubles = []
    for _ in kinds:
        link.step()
        until = time.monotonic() + 5
        while link.state is LinkState.CONNECTING and time.monotonic() < until:
            link.step()
        troubles.append(link.trouble)
        now += 600_000_000
    assert searched == [True, False, False, False, True, False]
    cause = ["refused: the cause"] * 3 + ["no answer: see the log"] + ["no answer: the cause"] * 2
    assert troubles == cause, "the cause that was found stays"
