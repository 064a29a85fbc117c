"""The shipped broker settings: only TLS, no anonymous users, each user may publish only its own topics."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from monitor.commands.check import Level, findings
from monitor.publish.broker_client import BrokerClient, ConnectError, Subscriptions
from monitor.settings import MqttSettings
from tests.real.bundle import ROOT
from tests.real.port import free_port

pytestmark = pytest.mark.xdist_group("broker access")
P = "plant1/line1"
USERS = {"line1": "one", "gateway1": "two", "viewer1": "three"}
CHECK_SAYS = f"{P}/check/top/verdict"
LINE_SAYS = (
    f"{P}/status",
    f"{P}/heartbeat",
    f"{P}/top/verdict",
    f"{P}/top/reject",
    f"{P}/top/recipe",
    f"{P}/recipe",
    CHECK_SAYS,
)
GATEWAY_SAYS = (f"{P}/top/ack", f"{P}/reset", f"{P}/top/recipe/set", f"{P}/recipe/set")
ELSEWHERE = ("plant1/line2/top/verdict", "plant1/line2/reset", "other/topic")


@dataclass
class Broker:
    port: int
    certificates: Path

    def settings(self, user: str | None, **more: object) -> MqttSettings:
        given = {
            "host": "localhost",
            "port": self.port,
            "username": user,
            "password": USERS.get(user or ""),
            "ca_file": self.certificates / "ca.crt",
            **more,
        }
        return MqttSettings(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """The example without changes, except for the port and the folder, which is not /etc/mosquitto here."""
    # Mosquitto drops root rights before it reads the file, and pytest's folders are private.
    place = Path(tempfile.mkdtemp(prefix="broker-"))
    try:
        port = free_port()
        names = ("localhost", "127.0.0.1")
        script = ROOT / "deploy/broker-certificates.sh"
        subprocess.run(["bash", script, place / "certs", *names], check=True, capture_output=True)
        shutil.copy(ROOT / "config/mosquitto-acl-example", place / "acl")
        for user, password in USERS.items():
            create = [] if (place / "passwords").exists() else ["-c"]
            subprocess.run(
                ["mosquitto_passwd", "-b", *create, place / "passwords", user, password], check=True
            )
        config = (ROOT / "config/mosquitto-example.conf").read_text()
        config = config.replace("/etc/mosquitto/", f"{place}/").replace("listener 8883", f"listener {port}")
        (place / "mosquitto.conf").write_text(config)
        for path in (place, *place.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert program, "Mosquitto is missing: apt-get install mosquitto (deploy/test.sh does)"
        with (place / "log").open("wb") as log:
            process = subprocess.Popen([program, "-c", place / "mosquitto.conf"], stdout=log, stderr=log)
        until = time.monotonic() + 15
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield Broker(port, place / "certs")
        process.kill()
        process.wait()
    finally:
        shutil.rmtree(place)


class Client:
    """A user of the broker: it receives what it may read, and learns which messages the broker refuses."""

    def __init__(self, broker: Broker, user: str) -> None:
        self.heard: list[str] = []
        self.allowed: dict[int, bool] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.username_pw_set(user, USERS[user])
        self._client.tls_set(ca_certs=str(broker.certificates / "ca.crt"))
        self._client.on_message = lambda client, data, message: self.heard.append(message.topic)
        self._client.on_publish = self._on_publish
        self._ready = False
        self._client.on_subscribe = self._on_subscribe
        self._client.connect("localhost", broker.port)
        self._client.subscribe("#", qos=1)
        self.turn(lambda: self._ready)

    def _on_publish(self, client: object, data: object, mid: int, reason: object, more: object) -> None:
        self.allowed[mid] = not reason.is_failure  # type: ignore[attr-defined]

    def _on_subscribe(self, *given: object) -> None:
        self._ready = True

    def turn(self, until: object, within_s: float = 10.0) -> None:
        end = time.monotonic() + within_s
        while not until():  # type: ignore[operator]
            assert time.monotonic() < end
            self._client.loop(0.02)

    def hear(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._client.loop(0.02)

    def may_say(self, topic: str) -> bool:
        mid = self._client.publish(topic, b"{}", qos=1).mid
        self.turn(lambda: mid in self.allowed)
        return self.allowed[mid]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop(0.1)


@pytest.mark.parametrize(("user", "own"), [("line1", LINE_SAYS), ("gateway1", GATEWAY_SAYS), ("viewer1", ())])
def test_each_may_say_its_own_topics_and_no_others(user: str, own: tuple[str, ...], broker: Broker) -> None:
    client = Client(broker, user)
    said = {topic for topic in (*LINE_SAYS, *GATEWAY_SAYS, *ELSEWHERE) if client.may_say(topic)}
    client.close()
    assert said == set(own)


def test_each_hears_what_it_should_and_nothing_of_another_line(broker: Broker) -> None:
    line, gateway, viewer = (Client(broker, user) for user in USERS)
    for topic in LINE_SAYS:
        assert line.may_say(topic)
    for topic in GATEWAY_SAYS:
        assert gateway.may_say(topic)
    for client in (line, gateway, viewer):
        client.hear(0.5)
        client.close()
    assert set(line.heard) == {*GATEWAY_SAYS, f"{P}/heartbeat", CHECK_SAYS}, (
        "the line receives its gateway's messages, heartbeats and what check publishes, and no verdicts"
    )
    assert set(gateway.heard) == set(viewer.heard) == {*LINE_SAYS, *GATEWAY_SAYS}


@pytest.mark.parametrize(
    ("user", "more", "words"),
    [
        (None, {}, "check mqtt.username and password"),
        ("line1", {"password": "wrong"}, "check mqtt.username and password"),
        ("line1", {"ca_file": None}, "refuses|does not answer|can't be reached|closed"),
        ("line1", {"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "TLS failed.*check mqtt.ca_file"),
    ],
)
def test_nameless_unencrypted_and_unknown_are_refused_in_one_line(
    user: str | None, more: dict[str, object], words: str, broker: Broker
) -> None:
    with pytest.raises(ConnectError, match=words) as refused:
        BrokerClient(broker.settings(user, **more), "t", None, Subscriptions()).connect(diagnose=True)
    assert "\n" not in str(refused.value)


def test_a_broker_that_calls_itself_otherwise_is_not_believed(broker: Broker) -> None:
    with pytest.raises(ConnectError, match="TLS failed"):
        BrokerClient(broker.settings("line1", host="127.0.0.2"), "t", None, Subscriptions()).connect()


def test_check_says_whether_the_broker_lets_the_line_speak(broker: Broker, tmp_path: Path) -> None:
    config = tmp_path / "line.toml"

    def found(user: str) -> list[tuple[Level, str]]:
        config.write_text(
            f'[line]\ndata = "data"\n[mqtt]\nhost = "localhost"\nport = {broker.port}\nusername = "{user}"\n'
            f'password = "{USERS[user]}"\nca_file = "{broker.certificates}/ca.crt"\n[metrics]\nport = 0\n'
            "[review]\nport = 0\n"
        )
        return [(finding.level, finding.text) for finding in findings(config) if finding.item == "broker"]

    (level, text), *rest = found("line1")
    assert (level, rest) == (Level.OK, [])
    assert text == f"localhost:{broker.port} answers and lets us publish"
    told = found("viewer1")
    assert [level for level, _ in told] == [Level.OK, Level.WARN]
    assert told[0][1] == f"localhost:{broker.port} answers", "nothing is said that was not tried"
    assert f"refuses what we publish on {P}/check/" in told[1][1]
    assert "could not be tried: see its ACL" in told[1][1]
