"""Brokers that can do less than MQTT allows: `check` finds out, the line copes or says what helps."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from monitor.publish.broker_client import ConnectError, Subscriptions, Will
from monitor.publish.broker_trial import BrokerTrial
from monitor.publish.mqtt_connection import Link, LinkState, PacketNeeds
from monitor.publish.other_session import make_client_id
from monitor.settings import MqttSettings, RecipeSettings, Settings
from tests.integration.test_line import assert_one_verdict_a_frame, folder_camera
from tests.real import parts_folder
from tests.real.line import Line, Witness
from tests.real.mosquitto import Mosquitto
from tests.real.odd_broker import OddBroker, connack

NO_RETAIN, SMALL, TINY, NO_QOS, NARROW = (
    "retain_available false",
    "max_packet_size 400",
    "max_packet_size 250",
    "max_qos 0",
    "max_inflight_messages 1",
)


_ACL_WITHOUT_CHECK = "".join(
    f"topic {right} plant1/line1/{topics}\n"
    for right, topics in [
        *(("write", kind) for kind in ("status", "heartbeat", "+/verdict", "+/reject", "+/recipe", "recipe")),
        *(("read", kind) for kind in ("+/ack", "reset", "+/recipe/set", "recipe/set")),
    ]
)


def line_settings(port: int, protocol: int = 5) -> Settings:
    camera = {"name": "top", "source": "simulated://plate", "recipe": "plate"}
    return Settings(
        camera=(camera,),  # type: ignore[arg-type]
        recipes=RecipeSettings(sets={"bottle": {"top": "plate"}}),
        mqtt=MqttSettings(port=port, protocol=protocol),  # type: ignore[arg-type]
    )


def found(port: int, protocol: int = 5) -> list[tuple[bool, str]]:
    """What a trial of the broker finds; a broker that can't be connected to is fatal too."""
    try:
        shortcomings = BrokerTrial(line_settings(port, protocol), publishes=True).run()
    except ConnectError as error:
        return [(True, str(error))]
    return [(one.is_fatal, one.text) for one in shortcomings]


def await_true(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    until = time.monotonic() + within_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("protocol", "limit", "fatal", "words"),
    [
        (5, NO_RETAIN, False, "keeps no retained messages"),
        (5, SMALL, False, "packets of at most 400 bytes"),
        (5, NARROW, False, "lets 1 unacknowledged messages wait"),
        (5, TINY, True, "packets of at most 250 bytes, but the shortest verdict needs"),
        (5, NO_QOS, True, "allow QoS 1 at the broker"),
        (4, SMALL, True, "it may take only smaller packets"),
        (4, "message_size_limit 400", True, "bytes and drops it: raise its"),
        (5, "message_size_limit 400", True, "it may take only smaller packets"),
        (4, NO_QOS, True, "it may take no message with QoS 1"),
    ],
)
def test_a_trial_finds_what_a_mosquitto_can_not(protocol: int, limit: str, fatal: bool, words: str) -> None:
    with Mosquitto(extra=limit) as broker:
        ((is_fatal, text),) = found(broker.port, protocol)
    assert words in text
    assert is_fatal is fatal
    assert "\n" not in text


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_broker_that_can_all_is_found_to_and_nothing_is_left_there(protocol: int) -> None:
    with Mosquitto() as broker:
        witness = Witness(broker.port, "plant1/line1")
        await_true(witness.hears)
        assert found(broker.port, protocol) == []
        await_true(lambda: bool(witness.heard("check/top/verdict")))
        (verdict,) = witness.heard("check/top/verdict")
        assert verdict.payload["verdict"] == "uninspected"
        assert "session" not in verdict.payload, "a gateway that is bound to a session takes it for no line's"
        assert len(json.dumps(verdict.payload, separators=(",", ":"))) > 550
        assert witness.heard("check/top/status")[0].payload["ready"] is False
        late = Witness(broker.port, "plant1/line1")
        time.sleep(0.5)
        assert not late.heard("check/top/status"), "the retained message is gone"
        for one in (witness, late):
            one.close()


@pytest.mark.parametrize(
    ("broker", "fatal", "words"),
    [
        (OddBroker(connack(server_keep_alive=60)), False, "only after 90 s"),
        (OddBroker(connack(wildcard_available=0)), False, "no subscriptions with wildcards"),
        (OddBroker(connack(maximum_qos=0)), True, "takes messages with QoS 0 only"),
        (OddBroker(connack(0x97)), True, "quota"),
        (OddBroker(connack(0x8A)), True, "see the broker's log"),
        (OddBroker(b""), True, "is it an MQTT broker"),
        (OddBroker(suback=0x87), True, "does not let us receive plant1/line1/reset, plant1/line1/+/ack"),
        (OddBroker(suback=0x80), True, "plant1/line1/recipe/set"),
        (OddBroker(on_publish=bytes([0xE0, 2, 0x95, 0])), True, "max_packet_size"),
        (OddBroker(on_publish=bytes([0xE0, 2, 0x97, 0])), True, "quota"),
        (OddBroker(on_publish=b""), True, "it may take only smaller packets"),
    ],
    ids=[
        "keepalive",
        "wildcards",
        "qos 0",
        "quota",
        "banned",
        "closes",
        "0x87",
        "0x80",
        "0x95",
        "0x97",
        "hangs up",
    ],
)
def test_a_trial_finds_what_an_odd_broker_does(broker: OddBroker, fatal: bool, words: str) -> None:
    with broker:
        told = found(broker.port)
    assert any(words in text and is_fatal is fatal for is_fatal, text in told), told
    assert all("\n" not in text for _, text in told)


def test_a_broker_that_delivers_nothing_back_is_told() -> None:
    """As an ACL that denies without a word."""
    with OddBroker() as broker:
        told = found(broker.port)
    ((is_fatal, text),) = told
    assert not is_fatal, "with MQTT 5 the broker has acknowledged the message"
    assert "did not come back; so what the line publishes could not be tried: see its ACL" in text


@pytest.mark.parametrize("acl", ["topic readwrite elsewhere/#\n", _ACL_WITHOUT_CHECK])
def test_an_acl_without_the_topics_of_check_leaves_untried_what_the_line_publishes(acl: str) -> None:
    """A line runs well with the second: it never uses these topics itself."""
    # Mosquitto drops root rights before it reads the file, and pytest's folders are private.
    with tempfile.NamedTemporaryFile("w", prefix="acl-") as file:
        file.write(acl)
        file.flush()
        Path(file.name).chmod(0o644)
        with Mosquitto(extra=f"acl_file {file.name}") as broker:
            ((is_fatal, text),) = found(broker.port, protocol=4)
            assert not is_fatal
            assert "does not let us publish or receive plant1/line1/check/#" in text
            assert "could not be tried" in text
            ((is_fatal, text),) = found(broker.port, protocol=5)
            assert not is_fatal
            assert "refuses what we publish on plant1/line1/check/top/status" in text
            assert "could not be tried" in text


def turn(link: Link, until: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < end, f"not within {within_s} s; link {link.state}: {link.trouble}"
        link.step()
        time.sleep(0.005)


def make_link(port: int, needs: PacketNeeds | None = None, **more: object) -> Link:
    settings = MqttSettings(port=port, **more)  # type: ignore[arg-type]
    will = Will("p/l/status", b'{"state": "offline", "cameras": {}}', b'{"state": "offline"}')
    topics = Subscriptions(("p/l/+/ack",), ("p/l/top/ack",))
    return Link(settings, "t", lambda: will, topics, needs=needs or PacketNeeds())


@pytest.mark.parametrize("protocol", [4, 5])
def test_without_retained_messages_the_will_and_the_status_are_sent_as_others(protocol: int) -> None:
    with Mosquitto(extra=NO_RETAIN) as broker:
        witness = Witness(broker.port, "p/l")
        line = make_link(broker.port, protocol=protocol)
        turn(line, lambda: line.state is LinkState.UP)
        assert not line.keeps_retained
        line.send("p/l/status", b'{"state": "inspecting"}', retain=True)
        turn(line, lambda: bool(witness.heard("status")))
        line.drop("gone")
        turn(line, lambda: witness.status()["state"] == "offline")
        assert line.generation == 1
        line.close()
        witness.close()


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_will_that_is_too_large_is_made_shorter(protocol: int) -> None:
    with Mosquitto(extra=f"{SMALL}\n{NO_RETAIN}") as broker:
        witness = Witness(broker.port, "p/l")
        will = Will("p/l/status", b'{"cameras": "' + b"x" * 500 + b'"}', b'{"state": "offline"}')
        settings = MqttSettings(port=broker.port, protocol=protocol)
        line = Link(settings, "t", lambda: will, Subscriptions(("p/l/+/ack",)))
        turn(line, lambda: line.state is LinkState.UP)
        line.drop("gone")
        turn(line, lambda: witness.status() == {"state": "offline"})
        line.close()
        witness.close()


def test_with_mqtt_311_a_broker_that_hangs_up_on_each_verdict_is_not_taken_for_another_line_alone() -> None:
    with Mosquitto(extra=SMALL) as broker:
        line = make_link(broker.port, protocol=4)

        def is_told() -> bool:
            if line.state is LinkState.UP:
                line.send("p/l/top/verdict", b"x" * 600)
            return "the broker does not take what the line sends" in line.trouble

        turn(line, is_told)
        assert "line-monitor check" in line.trouble
        line.close()


def test_a_message_that_is_too_large_is_not_sent_and_the_connection_stays() -> None:
    with Mosquitto(extra=SMALL) as broker:
        line = make_link(broker.port, PacketNeeds(300, 700))
        turn(line, lambda: line.state is LinkState.UP)
        assert "at most 400 bytes" in line.limitations[0]
        room = line.payload_room("p/l/top/verdict", expires=True)
        assert room is not None
        assert line.send("p/l/top/verdict", b"x" * (room + 1), ttl_ms=500) is None
        assert "max_packet_size" in line.refusal()
        sent = line.send("p/l/top/verdict", b"x" * room, ttl_ms=500)
        acknowledged: set[int] = set()

        def is_acknowledged() -> bool:
            acknowledged.update(line.take_acknowledged())
            return sent in acknowledged

        turn(line, is_acknowledged)
        assert line.generation == 1
        line.close()


def test_a_broker_that_cant_take_the_shortest_verdict_is_one_line_with_the_fix() -> None:
    with Mosquitto(extra=SMALL) as broker:
        line = make_link(broker.port, PacketNeeds(401, 700))
        turn(line, lambda: bool(line.trouble))
        assert "the shortest verdict needs 401; raise the limit at the broker" in line.trouble
        line.close()


def test_a_broker_without_wildcards_gets_plain_subscriptions() -> None:
    with OddBroker(connack(wildcard_available=0)) as broker:
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        assert broker.topics == ["p/l/top/ack"]
        line.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [(0x95, "Packet too large"), (0x97, "Quota exceeded"), (0x8B, "Server shutting down"), (0x98, "action")],
)
def test_the_brokers_reason_for_ending_the_connection_is_told(code: int, words: str) -> None:
    with OddBroker(on_publish=bytes([0xE0, 2, code, 0])) as broker:
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        line.send("p/l/top/reject", b"{}")
        turn(line, lambda: line.state is not LinkState.UP)
        assert words in line.trouble
        assert f"0x{code:02X}" in line.trouble
        line.close()


def test_a_line_inspects_at_a_broker_without_retained_messages_with_small_packets_and_one_at_a_time(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=2)
    config = write_config(folder_camera(tmp_path / "parts").replace("= 500", "= 2000"))
    with Mosquitto(extra=f"{NO_RETAIN}\n{SMALL}\n{NARROW}") as broker:
        text = config.read_text()
        config.write_text(text.replace("port = ", f"port = {broker.port} #", 1))
        with Line(config, broker.port) as line:
            line.await_ready()
            ring = line.ring("top")
            late = paho.Client(CallbackAPIVersion.VERSION2)
            statuses: list[bytes] = []
            late.on_message = lambda client, data, message: statuses.append(message.payload)
            late.connect("127.0.0.1", broker.port)
            late.subscribe("plant/line/+")
            late.loop_start()
            line.wait_for(lambda: any(b'"ready":true' in one for one in statuses), 5, "a repeated status")
            late.disconnect()
            late.loop_stop()
            line.wait_for(lambda: len(line.witness.heard("top/reject")) > 10, 20, "rejects")
            line.stop()
            assert "keeps no retained messages" in line.log.read_text()
            assert " ERROR " not in line.log.read_text()
            assert_one_verdict_a_frame(line, "top", ring)
            assert set(line.witness.verdicts("top")) == set(range(1, ring.last_frame() + 1))
            rejects = [one.payload["verdict"] for one in line.witness.heard("top/reject")]
            assert rejects.count("reject") > 10


def test_the_other_connections_of_a_line_have_no_longer_client_ids_than_the_line() -> None:
    """A broker need not take more than 23 characters (MQTT 3.1.1, 3.1.3.1)."""
    settings = line_settings(1)
    for kind in ("c", "l"):
        assert len(make_client_id(settings, kind, "0" * 4)) <= len("plant1.line1.monitor") <= 23
    assert len(BrokerTrial(settings, publishes=True)._client_id) <= 23
