"""Two lines with one site and name on one broker: the newcomer stays silent, and both say what is wrong."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.commands.check import Level, findings
from monitor.publish import other_session
from monitor.publish.broker_client import ConnectError, Subscriptions, Will
from monitor.publish.mqtt_connection import Link, LinkState
from monitor.publish.other_session import OtherSessionGuard, Suspicion
from monitor.settings import Settings
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.odd_broker import OddBroker

_BEAT_S = 0.3


class Speaker:
    """A link with its guard that sends a heartbeat every 0.3 s while it is connected."""

    def __init__(self, port: int, protocol: int, *, listens_first: bool = True) -> None:
        settings = Settings(mqtt={"port": port, "protocol": protocol})  # type: ignore[arg-type]
        self.session = str(uuid.uuid4())
        will = Will("plant1/line1/status", b"{}")
        self.link = Link(
            settings.mqtt,
            "plant1.line1.monitor",
            lambda: will,
            Subscriptions(("plant1/line1/reset",)),
            guard=OtherSessionGuard(settings, self.session),
            listens_first=listens_first,
        )
        self._n, self._due = 0, 0.0

    @property
    def is_up(self) -> bool:
        return self.link.state is LinkState.UP

    def turn(self) -> None:
        self.link.step()
        if self.is_up and time.monotonic() >= self._due:
            self._n, self._due = self._n + 1, time.monotonic() + _BEAT_S
            beat = json.dumps({"session": self.session, "n": self._n}).encode()
            self.link.send("plant1/line1/heartbeat", beat, qos=0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of the guard, as much shorter as these heartbeats are quicker."""
    monkeypatch.setattr(other_session, "LISTEN_S", 1.0)
    monkeypatch.setattr(other_session, "_SILENCE_S", 1.5)
    monkeypatch.setattr(other_session, "_APART_NS", 150_000_000)


def run(speakers: list[Speaker], until: Callable[[], bool], within_s: float = 15.0) -> None:
    end = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < end, [(one.link.state, one.link.trouble) for one in speakers]
        for speaker in speakers:
            speaker.turn()
        time.sleep(0.005)


def run_for(speakers: list[Speaker], seconds: float) -> list[tuple[bool, ...]]:
    """The states in which they were meanwhile, each once."""
    end, states = time.monotonic() + seconds, []
    while time.monotonic() < end:
        for speaker in speakers:
            speaker.turn()
        state = tuple(speaker.is_up for speaker in speakers)
        if state not in states:
            states.append(state)
        time.sleep(0.005)
    return states


@pytest.mark.parametrize("protocol", [4, 5])
def test_the_newcomer_stays_silent_until_the_other_has_left(quick: None, protocol: int) -> None:
    with Mosquitto() as broker:
        first, second = Speaker(broker.port, protocol), Speaker(broker.port, protocol)
        run([first], lambda: first.is_up)
        run([first, second], lambda: "another line speaks as plant1/line1" in second.link.trouble)
        assert first.session[:8] in second.link.trouble
        assert run_for([first, second], 2.5) == [(True, False)]
        assert first.link.generation == 1, "the first one was not disturbed"
        first.link.close()
        run([second], lambda: second.is_up)
        assert second.link.trouble == ""
        second.link.close()


@pytest.mark.parametrize("protocol", [4, 5])
def test_of_two_that_start_at_once_one_stays_silent(quick: None, protocol: int) -> None:
    with Mosquitto() as broker:
        both = [Speaker(broker.port, protocol), Speaker(broker.port, protocol)]
        run(both, lambda: any("another line speaks" in one.link.trouble for one in both))
        run(both, lambda: any(one.is_up for one in both))
        assert len(run_for(both, 2.5)) == 1, "nothing changes any more"
        assert sum(one.is_up for one in both) == 1
        for one in both:
            one.link.close()


def test_who_is_thrown_out_by_another_client_says_so(quick: None) -> None:
    with OddBroker(on_publish=bytes([0xE0, 2, 0x8E, 0])) as broker:
        line = Speaker(broker.port, 5, listens_first=False)
        run([line], lambda: "Session taken over" in line.link.trouble)
        assert "give each line its own line.site and line.name" in line.link.trouble
        run([line], lambda: "plant1/line1/heartbeat" in broker.topics)
        line.link.close()


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_line_that_another_program_throws_out_again_and_again_gives_way_and_says_why(
    quick: None, protocol: int
) -> None:
    """As a line of an earlier version, which does not listen, at a broker that gives no reason."""
    with Mosquitto() as broker:
        line = Speaker(broker.port, protocol, listens_first=False)
        run([line], lambda: line.is_up)
        intruder = Speaker(broker.port, protocol, listens_first=False)
        intruder.link._guard = None
        run([intruder, line], lambda: "another line speaks" in line.link.trouble)
        assert run_for([intruder, line], 1.0) == [(True, False)]
        for one in (line, intruder):
            one.link.close()


def test_a_line_that_stays_silent_does_not_speak_when_it_is_stopped(quick: None) -> None:
    with Mosquitto() as broker:
        first, second = Speaker(broker.port, 5), Speaker(broker.port, 5)
        run([first], lambda: first.is_up)
        run([first, second], lambda: "another line speaks" in second.link.trouble)
        second.link.close()
        assert run_for([first], 1.0) == [(True,)]
        assert first.link.generation == 1
        first.link.close()


def test_our_own_connection_that_was_abandoned_is_no_other_line(quick: None) -> None:
    """The broker still has it when the line connects again."""
    with Mosquitto() as broker:
        line = Speaker(broker.port, 5)
        run([line], lambda: line.is_up)
        began = time.monotonic()
        successor = Speaker(broker.port, 5, listens_first=False)
        successor.session = line.session
        run([successor], lambda: successor.is_up)
        assert time.monotonic() - began < 0.8, "a publisher that follows a dead one does not listen first"
        assert run_for([successor], 1.0) == [(True,)]
        successor.link.close()
        next_session = Speaker(broker.port, 5)
        run([next_session], lambda: next_session.is_up)
        next_session.link.close()


def test_while_nobody_can_be_heard_who_is_thrown_out_waits_longer_each_time(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_session, "LISTEN_S", 0.4)
    with Mosquitto() as broker:
        settings = Settings(mqtt={"port": broker.port})  # type: ignore[arg-type]
        guard = OtherSessionGuard(settings, "own")
        took = []
        for _ in range(3):
            began = time.monotonic()
            guard.wait_until_free(lambda trouble: None, lambda: False, Suspicion.TAKEN_OVER)
            took.append(time.monotonic() - began)
        assert [least <= one < 1.9 * least for one, least in zip(took, (0.4, 0.8, 1.6), strict=True)] == [
            True
        ] * 3
        threading.Timer(0.3, broker.stop).start()
        with pytest.raises(ConnectError):
            guard.wait_until_free(lambda trouble: None, lambda: False)


@pytest.mark.slow
@pytest.mark.timing
def test_of_two_lines_with_one_name_the_second_publishes_nothing_and_says_why(
    tmp_path: Path, write_config: Callable[..., Path], broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 5, bad_every=0)
    first = write_config(
        f'[[camera]]\nname = "top"\nsource = "folder://{tmp_path}/parts?fps=5&loop=1"\nrecipe = "plate"\n'
        "deadline_ms = 1000\n"
    )
    (tmp_path / "copy").mkdir()
    second = tmp_path / "copy/line.toml"
    second.write_text(first.read_text())
    shutil.copytree(tmp_path / "data", tmp_path / "copy/data")
    with Line(first, broker.port) as line:
        line.await_ready()
        since, session = time.monotonic(), line.witness.status()["session"]
        assert not [one for one in findings(first) if "another line" in one.text], (
            "its own session is no other"
        )
        told = [one for one in findings(second) if one.item == "broker" and one.level is Level.FAIL]
        assert [session[:8] in one.text for one in told] == [True]
        with Line(second, broker.port) as copy:
            copy.wait_for(
                lambda: "another line speaks as plant/line" in copy.log.read_text(), 30, "the reason"
            )
            time.sleep(2)
        assert line.process.poll() is None
        assert {one.payload["session"] for one in line.witness.heard("status")} == {session}
        assert {one.payload["session"] for one in line.witness.heard("top/verdict")} == {session}
        assert {one.payload["ready"] for one in line.witness.heard("heartbeat", since)} == {True}
