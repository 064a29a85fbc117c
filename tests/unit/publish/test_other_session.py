"""Another session speaks when its heartbeats go on; leftovers of a connection that has ended do not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from monitor.publish import other_session
from monitor.publish.broker_client import ConnectError, Received
from monitor.publish.other_session import HeardSessions, HeartbeatEcho, OtherSessionGuard, Suspicion
from monitor.settings import Settings
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


class Listening:
    """In place of the connections that listen, on a clock of its own. `refusal`: the broker refuses them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusal: str = "") -> None:
        self.now, self.refusal, self.can_hear = 0, refusal, True
        self.code = 0x87
        self.lives_s = 1e9
        """How long a connection that listens lives."""
        self.told: list[str] = []
        monkeypatch.setattr(other_session, "HeartbeatListener", self._open)
        monkeypatch.setattr(other_session.time, "sleep", self._sleep)
        self.guard = OtherSessionGuard(Settings(), OWN, lambda: self.now)

    def _open(self, settings: Settings, diagnose: bool) -> Listening:
        if self.refusal:
            raise ConnectError(self.refusal, self.code)
        self._ends = self.now + int(self.lives_s * 1e9)
        return self

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *ended: object) -> None: ...

    def take(self, heard: HeardSessions, clock: Callable[[], int]) -> None:
        self._sleep(0.1)
        if self.now >= self._ends:
            raise ConnectError("closed or lost the connection")

    def _sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)

    def waits_s(self, suspicion: Suspicion, times: int, between_s: float = 1.0) -> list[float]:
        waits = []
        for _ in range(times):
            began = self.now
            self.guard.wait_until_free(self.told.append, lambda: False, suspicion)
            waits.append(round((self.now - began) / 1e9))
            self._sleep(between_s)
        return waits


def test_a_flapping_network_never_makes_the_line_listen_longer_than_3_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Listening(monkeypatch)
    assert line.waits_s(Suspicion.NONE, 3) == [3, 3, 3]
    assert line.waits_s(Suspicion.SHORT, 5) == [3, 3, 3, 3, 3]
    assert line.waits_s(Suspicion.TAKEN_OVER, 6) == [3, 6, 12, 24, 48, 60]
    assert line.waits_s(Suspicion.SHORT, 1) == [3]
    assert line.waits_s(Suspicion.TAKEN_OVER, 2, between_s=200) == [60, 3]
    line.lives_s = 2
    assert line.waits_s(Suspicion.SHORT, 2) == [2, 2], "the connection that listens ends too: no other client"
    with pytest.raises(ConnectError):
        line.waits_s(Suspicion.NONE, 1)
    assert line.waits_s(Suspicion.NONE, 1) == [1], "the start listens for 3 s in all"


@pytest.mark.parametrize("refusal", ["refuses the connection", ""])
@pytest.mark.parametrize("suspicion", [Suspicion.SHORT, Suspicion.TAKEN_OVER])
def test_where_nobody_can_be_heard_who_is_thrown_out_yields_for_15_s_and_longer(
    monkeypatch: pytest.MonkeyPatch, suspicion: Suspicion, refusal: str
) -> None:
    line = Listening(monkeypatch, refusal)
    line.can_hear = False
    assert line.waits_s(Suspicion.NONE, 2) == [0, 0], "nothing says that there is another line"
    assert line.waits_s(suspicion, 4) == [15, 30, 60, 60]
    assert "the line waits 15 s" in line.told[0]
    (warning,) = line.guard.warnings
    assert "another line that speaks as plant1/line1 can't be noticed" in warning
    assert "plant1.line1.l-*" in warning


def test_the_publisher_that_follows_one_that_yielded_yields_too(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Listening(monkeypatch, "refuses the connection")
    line.guard = OtherSessionGuard(Settings(), OWN, lambda: line.now, yields=True)
    assert line.waits_s(Suspicion.NONE, 2) == [15, 0]


def test_a_line_whose_own_heartbeat_does_not_come_back_says_that_it_can_notice_nobody() -> None:
    echo = HeartbeatEcho(OWN)
    for connection, at_ms, deaf in [(0, 0, 0), (1, 9000, 0), (1, 13_900, 0), (1, 14_000, 1), (0, 15_000, 1)]:
        echo.step(connection, at_ms * MS)
        assert echo.is_deaf is bool(deaf), at_ms
    echo.step(2, 20_000 * MS)
    echo.note(beat(OWN, 3), 21_000 * MS)
    echo.step(2, 90_000 * MS)
    assert not echo.is_deaf
    assert echo.other is None
    echo.note(beat(OTHER, 1), 91_000 * MS)
    echo.note(beat(OTHER, 2), 92_000 * MS)
    assert echo.other == OTHER, "a second line that speaks while this one is connected"
    echo.step(2, 106_900 * MS)
    assert echo.other == OTHER
    echo.step(2, 107_000 * MS)
    assert echo.other is None, "it has left"
    assert not echo.is_deaf


def test_a_line_that_is_deaf_by_the_brokers_acl_yields_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Listening(monkeypatch)
    line.guard.step(1)
    line._sleep(6)
    line.guard.step(1)
    assert "does not come back" in line.guard.warnings[0]
    assert line.waits_s(Suspicion.TAKEN_OVER, 2) == [3 + 15, 6 + 30]


def test_a_broker_that_is_still_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Listening(monkeypatch, "Server busy")
    line.code = 0x89
    with pytest.raises(ConnectError):
        line.waits_s(Suspicion.NONE, 1)
    assert line.guard.warnings == ()
