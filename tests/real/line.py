"""A real line: `line-monitor run` as a process, and a witness that receives all its MQTT messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from monitor import paths
from monitor.line_state.board import Board, Field
from monitor.line_state.ring import Ring
from monitor.line_state.worker_process import worker_names
from monitor.settings import Settings, load_settings


def settings_text(cameras: str, port: int, mqtt: str = "", more: str = "", page: int = 0) -> str:
    """The settings of a line with these cameras (TOML), its broker on that port, and its page on `page`.

    They name a precision, unless `more` has a table [scoring]: what `auto` measures at each first start takes
    longer than most of these tests.
    """
    scoring = "" if "[scoring]" in more else '[scoring]\nprecision = "f32"\n'
    return (
        '[line]\nsite = "plant"\nname = "line"\ndata = "data"\n'
        f"{cameras}\n[mqtt]\nport = {port}\n{mqtt}\n"
        f"[metrics]\nport = 0\n[review]\nport = {page}\n[snapshots]\nmin_free_gb = 0.0\n{scoring}{more}\n"
    )


@dataclass
class Heard:
    topic: str
    payload: dict[str, Any]
    retained: bool
    at: float
    """The time.monotonic() of the arrival."""


class Witness:
    """An MQTT client that receives all messages below a prefix, also after restarts of the broker."""

    def __init__(self, port: int, prefix: str) -> None:
        self.prefix = prefix
        self._messages: dict[str, list[Heard]] = {}
        """Messages by topic, in the order of arrival."""
        self._lock = threading.Lock()
        self._deaf: list[tuple[float, float]] = []
        self._deaf_since = time.monotonic()
        """It is infinity while the witness is connected."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(0.1, 0.5)
        self._client.on_connect = lambda client, *rest: client.subscribe(f"{prefix}/#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=5)
        self._client.loop_start()

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        topic = message.topic.removeprefix(f"{self.prefix}/")
        if topic in ("reset", "recipe/set") or topic.endswith(("/ack", "/recipe/set")):
            # The tests themselves send these messages, some with invalid content.
            return
        at = time.monotonic()
        try:
            payload = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if isinstance(payload, dict):  # the line sends no other payload
            with self._lock:
                self._messages.setdefault(topic, []).append(Heard(topic, payload, message.retain, at))

    def _on_subscribe(self, *rest: object) -> None:
        with self._lock:
            if self._deaf_since < float("inf"):
                self._deaf.append((self._deaf_since, time.monotonic()))
            self._deaf_since = float("inf")

    def _on_disconnect(self, *rest: object) -> None:
        with self._lock:
            self._deaf_since = min(self._deaf_since, time.monotonic())

    def deaf(self) -> list[tuple[float, float]]:
        """The times without reception, each from the loss of the connection until the broker had the
        subscription again; the last one ends now if the witness is still not connected."""
        with self._lock:
            still = [(self._deaf_since, time.monotonic())] if self._deaf_since < float("inf") else []
            return [*self._deaf, *still]

    def hears(self) -> bool:
        """Whether the broker has the subscription. Messages before that are never received."""
        with self._lock:
            return self._deaf_since == float("inf")

    def heard(self, topic: str, since: float = 0.0) -> list[Heard]:
        with self._lock:
            told = self._messages.get(topic, [])
            return told[bisect_left(told, since, key=lambda message: message.at) :]

    def forget(self, before: float, keep: frozenset[str] = frozenset()) -> None:
        """Delete the messages from before that time, except for the last status and those of the topics to
        keep."""
        with self._lock:
            for topic, told in self._messages.items():
                if topic in keep:
                    continue
                young = bisect_left(told, before, key=lambda message: message.at)
                del told[: min(young, len(told) - 1) if topic == "status" else young]

    def verdicts(self, camera: str) -> dict[int, set[tuple[str, str]]]:
        """By frame, every (event_id, verdict) that was received, on either topic."""
        told: dict[int, set[tuple[str, str]]] = {}
        for topic in (f"{camera}/verdict", f"{camera}/reject"):
            for message in self.heard(topic):
                payload = message.payload
                told.setdefault(payload["frame"], set()).add((payload["event_id"], payload["verdict"]))
        return told

    def status(self) -> dict[str, Any]:
        said = self.heard("status")
        return said[-1].payload if said else {}

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected()

    def say(self, topic: str, payload: str | bytes = "", retain: bool = False) -> None:
        self._client.publish(f"{self.prefix}/{topic}", payload, qos=1, retain=retain).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass
class Line:
    """`with Line(config, port) as line:` runs the service of that settings file."""

    config: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    module: str = "monitor.cli"
    """The program that is run. One that replaces it takes the same arguments."""
    stderr: int = subprocess.STDOUT
    """The file descriptor of its errors; without one they are in the log too."""
    settings: Settings = field(init=False)
    witness: Witness = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Line:
        self.settings = load_settings(self.config)
        self.witness = Witness(self.port, self.settings.prefix)
        self.start()
        return self

    def start(self) -> None:
        self.log = self.config.with_suffix(".log")
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module, "--config", str(self.config), "run"],
                stdout=out,
                stderr=self.stderr,
                env={**os.environ, **self.environment},
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        self.witness.close()
        if error is not None:
            print(self.log.read_text())

    def stop(self, within_s: float = 10.0) -> float:
        """Send SIGTERM. Returns the time until the line ended."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        return time.monotonic() - start

    def await_ready(self, within_s: float = 60.0) -> None:
        self.wait_for(lambda: self.witness.status().get("ready") is True, within_s, "ready")

    def reset_until_ready(self, within_s: float = 10.0) -> None:
        """Say `P/reset` until the line is ready: a busy machine can miss a reject after a reset too."""

        def is_ready() -> bool:
            if self.witness.status()["ready"] is True:
                return True
            # After a broker was frozen the witness may be connecting again.
            if self.witness.is_connected:
                self.witness.say("reset")
            time.sleep(0.5)
            return False

        self.wait_for(is_ready, within_s, "ready after a reset")

    def wait_for(self, condition: Callable[[], bool], within_s: float, what: str) -> float:
        """Wait until the condition is true. Returns the time that this took."""
        start = time.monotonic()
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"the line ended while waiting for {what}:\n{self.log.read_text()}")
            if time.monotonic() - start > within_s:
                raise AssertionError(
                    f"no {what} within {within_s} s; status {self.witness.status()}\n{self.log.read_text()}"
                )
            time.sleep(0.02)
        return time.monotonic() - start

    @property
    def folder(self) -> Path:
        return paths.runtime(self.settings)

    def ring(self, camera: str) -> Ring:
        return Ring(self.folder, camera)

    def latencies_ms(self, camera: str, seconds: float) -> list[float]:
        """Milliseconds from capture to sending, of the frames captured during the next seconds."""
        ring = self.ring(camera)
        try:
            first = ring.last_frame() + 1
            time.sleep(seconds)
            found = []
            for number in range(first, ring.last_frame() - 2):
                frame, sent_ns = ring.frame(number), ring.sent_ns(number)
                assert frame is not None
                if sent_ns:
                    found.append((sent_ns - frame.captured_ns) / 1e6)
            return found
        finally:
            ring.close()

    def pid(self, worker: str) -> int:
        board = Board(self.folder / "board", worker_names(self.settings))
        try:
            return board.read(worker, Field.PID)
        finally:
            board.close()

    def snapshots(self) -> list[Path]:
        return sorted(paths.snapshots(self.settings).rglob("*.jpg"))
