"""`line-monitor fleet status` with ten simulated lines on one broker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.cli import main
from monitor.fleet.plant_listener import open_listener
from monitor.publish.broker_client import Subscriptions, Will, open_client
from monitor.settings import MqttSettings, load_settings
from tests.real.mosquitto import Mosquitto

COUNTS = {"passed": 9, "rejected": 2, "uninspected": 1}


class SimulatedLine:
    """Publishes what a line publishes, over a connection with its Will."""

    def __init__(self, name: str, port: int, sha: str) -> None:
        self.prefix = f"plant/{name}"
        self.is_stuck = False
        offline = self._encode(state="offline", ready=False, reason="offline")
        self._client = open_client(
            MqttSettings(port=port), name, Will(f"{self.prefix}/status", offline), Subscriptions()
        )
        status = self._encode(state="inspecting", ready=True, reason=None, cameras={"top": "up"}, drift=[])
        in_force = self._encode(in_force={"recipe": "bottle", "recipe_sha": sha})
        self._client.publish_and_wait(f"{self.prefix}/status", status, retain=True)
        self._client.publish_and_wait(f"{self.prefix}/top/recipe", in_force, retain=True)

    def _encode(self, **payload: Any) -> bytes:
        return json.dumps({"schema": 1, "session": self.prefix, **payload}).encode()

    def beat(self) -> None:
        if self._client.is_open and not self.is_stuck:
            self._client.client.publish(f"{self.prefix}/heartbeat", self._encode(n=1, counts=COUNTS))
        self._client.read_and_write()

    def kill(self) -> None:
        """As the end of its process."""
        self._client.abort()


@contextmanager
def beating(lines: list[SimulatedLine]) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.5):
            for line in lines:
                line.beat()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_it_is_right_within_two_seconds_of_a_lines_death(
    broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "line.toml"
    config.write_text(f"[mqtt]\nport = {broker.port}\n")
    lines = [
        SimulatedLine(f"line{number}", broker.port, ("b" if number == 9 else "a") * 64)
        for number in range(10)
    ]
    with beating(lines):
        assert main(["--config", str(config), "fleet", "status", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert [line["ready"] for line in said["lines"]] == [True] * 10
        assert said["lines"][0]["counts"] == COUNTS
        assert said["counts"] == {"passed": 90, "rejected": 20, "uninspected": 10}
        ((difference,),) = [said["differences"]]
        assert difference["versions"]["b" * 64] == ["plant/line9/top"]
        with open_listener(load_settings(config)) as listener:
            listener.listen_once()
            lines[3].kill()
            lines[5].is_stuck = True
            died = time.monotonic()
            listener.listen(2.0, lambda: sum(line.ready for line in listener.lines()) == 8)
            states = {line.line: line.state for line in listener.lines() if not line.ready}
            assert states == {"plant/line3": "offline", "plant/line5": "silent"}
            assert time.monotonic() - died <= 2.1
        assert main(["--config", str(config), "fleet", "status"]) == 0
        said_in_words = capsys.readouterr().out
    assert "plant/line3 not ready offline: offline" in " ".join(said_in_words.split())
    assert "recipe 'bottle' differs" in said_in_words
    assert "sum of 8 lines" in said_in_words


def test_a_broker_without_lines_is_one_line(
    broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "line.toml"
    config.write_text(f"[mqtt]\nport = {broker.port}\n")
    assert main(["--config", str(config), "fleet", "status"]) == 1
    assert "no line has published a status" in capsys.readouterr().err
