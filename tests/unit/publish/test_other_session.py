"""Another session speaks when its heartbeats go on; leftovers of a connection that has ended do not."""

from __future__ import annotations

import json

import pytest

from monitor.publish.broker_client import Received
from monitor.publish.other_session import HeardSessions
from tests.unit.publish.scene import MS

OWN, OTHER = "own", "other"


def beat(session: object, n: object, retained: bool = False) -> Received:
    return Received("p/l/heartbeat", json.dumps({"session": session, "n": n}).encode(), retained)


def speaking(*beats: tuple[int, Received]) -> str | None:
    heard = HeardSessions({OWN})
    for at_ms, message in beats:
        heard.note(message, at_ms * MS)
    return heard.speaking


def test_a_session_that_beats_twice_speaks() -> None:
    assert speaking((0, beat(OTHER, 7)), (1000, beat(OTHER, 8))) == OTHER
    assert speaking((0, beat(OTHER, 7)), (400, beat(OTHER, 8)), (2900, beat(OTHER, 10))) == OTHER


@pytest.mark.parametrize(
    "beats",
    [
        [],
        [(0, beat(OTHER, 7))],
        [(n, beat(OTHER, n)) for n in range(100)],
        [(n * 1000, beat(OWN, n)) for n in range(5)],
        [(n * 1000, beat(OTHER, n, retained=True)) for n in range(5)],
        [(0, beat(OTHER, 7)), (2000, beat(OTHER, 7))],
        [(0, beat("a", 1)), (1000, beat("b", 2)), (2000, beat("c", 3))],
        [(0, beat(7, 1)), (1000, beat(7, 2))],
        [(0, beat(OTHER, "1")), (1000, beat(OTHER, "2"))],
    ],
    ids=["none", "one", "burst", "own", "retained", "repeated", "one each", "number", "text"],
)
def test_leftovers_and_our_own_heartbeats_are_no_other_line(beats: list[tuple[int, Received]]) -> None:
    assert speaking(*beats) is None


@pytest.mark.parametrize("payload", [b"", b"null", b"[" * 5000, b'{"session": "\xff", "n": 1}', b"{}"])
def test_what_is_no_heartbeat_is_ignored(payload: bytes) -> None:
    message = Received("p/l/heartbeat", payload, False)
    assert speaking((0, message), (1000, message)) is None
