"""The link with a real Mosquitto: no late message is sent, and an outage leaves nothing behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.publish.broker_client import BrokerClient, ConnectError, Subscriptions, Will
from monitor.publish.mqtt_connection import Link, LinkState
from monitor.settings import MqttSettings
from tests.benchmarks import unheard_rejects
from tests.real.line import Witness
from tests.real.mosquitto import Mosquitto
from tests.real.port import free_port


def make_link(port: int, **more: object) -> Link:
    settings = MqttSettings(port=port, **more)  # type: ignore[arg-type]
    return Link(
        settings, "t", lambda: Will("p/l/status", b'{"state": "offline"}'), Subscriptions(("p/l/+/ack",))
    )


def connect_once(settings: MqttSettings) -> None:
    client = BrokerClient(settings, "t", None, Subscriptions())
    client.connect(diagnose=True)
    client.disconnect()


def turn(link: Link, until: Callable[[], bool], within_s: float = 10.0) -> None:
    """Lets the link work until the condition holds."""
    end = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < end, f"not within {within_s} s; link {link.state}: {link.trouble}"
        link.step()
        time.sleep(0.005)


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_message_is_acknowledged_by_the_broker(protocol: int) -> None:
    with Mosquitto() as broker:
        witness = Witness(broker.port, "p/l")
        line = make_link(broker.port, protocol=protocol)
        turn(line, lambda: line.state is LinkState.UP)
        sent = line.send("p/l/top/reject", b"{}", ttl_ms=500)
        acknowledged: set[int] = set()

        def is_acknowledged() -> bool:
            acknowledged.update(line.take_acknowledged())
            return sent in acknowledged

        turn(line, is_acknowledged)
        assert not line.has_unacknowledged()
        turn(line, lambda: bool(witness.heard("top/reject")))
        line.close()
        witness.close()


@pytest.mark.parametrize(("protocol", "is_reported"), [(4, False), (5, True)])
def test_mqtt_5_reports_a_message_that_no_client_was_subscribed_to(protocol: int, is_reported: bool) -> None:
    with Mosquitto() as broker:
        line = make_link(broker.port, protocol=protocol)
        turn(line, lambda: line.state is LinkState.UP)

        def was_unheard() -> bool:
            sent = line.send("p/l/top/reject", b"{}", ttl_ms=500)
            acknowledged: set[int] = set()

            def is_acknowledged() -> bool:
                acknowledged.update(line.take_acknowledged())
                return sent in acknowledged

            turn(line, is_acknowledged)
            return sent in line.take_unheard()

        assert was_unheard() is is_reported
        witness = Witness(broker.port, "p/l")
        turn(line, witness.hears)
        assert not was_unheard()
        witness.close()
        line.close()


def test_a_message_does_not_wait_for_the_answer_to_the_one_before() -> None:
    with Mosquitto() as broker:
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        sock = line.socket()
        assert sock is not None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        line.close()


def test_messages_of_a_dead_connection_are_not_sent_by_the_next_one() -> None:
    with Mosquitto() as broker:
        witness = Witness(broker.port, "p/l")
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        broker.signal(signal.SIGSTOP)
        assert line.send("p/l/top/reject", b'{"n": 1}', ttl_ms=500) is not None
        line.drop("not acknowledged in time")
        broker.stop()
        assert line.send("p/l/top/reject", b'{"n": 2}') is None, "no message is taken without a connection"
        broker.start()
        turn(line, lambda: line.state is LinkState.UP)
        line.send("p/l/top/reject", b'{"n": 3}')
        turn(line, lambda: bool(witness.heard("top/reject")))
        time.sleep(0.5)
        assert [message.payload["n"] for message in witness.heard("top/reject")] == [3]
        line.close()
        witness.close()


def test_undelivered_messages_of_a_dropped_connection_never_arrive() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        taken: list[socket.socket] = []

        def accept() -> None:
            peer, _ = listener.accept()
            peer.recv(1000)
            peer.sendall(bytes([0x20, 3, 0, 0, 0]))  # CONNACK
            peer.recv(1000)
            peer.sendall(bytes([0x90, 4, 0, 1, 0, 1]))  # SUBACK
            taken.append(peer)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        line = make_link(listener.getsockname()[1])
        turn(line, lambda: line.state is LinkState.UP)
        thread.join(5)
        for _ in range(15):
            line.send("p/l/top/reject", b"x" * 200_000, ttl_ms=500)
        line.drop("expired")
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := taken[0].recv(1 << 16):
                received += len(chunk)
        assert received < 200_000, "the kernel does not go on delivering"
        taken[0].close()


def test_a_frozen_broker_is_noticed_by_the_keepalive() -> None:
    with Mosquitto() as broker:
        line = make_link(broker.port, keepalive_s=1)
        turn(line, lambda: line.state is LinkState.UP)
        broker.signal(signal.SIGSTOP)
        turn(line, lambda: line.state is not LinkState.UP, within_s=5.0)
        broker.signal(signal.SIGCONT)
        turn(line, lambda: line.state is LinkState.UP)
        assert line.generation == 2
        line.close()


def test_a_broken_connection_publishes_the_will_and_an_orderly_end_does_not() -> None:
    with Mosquitto() as broker:
        witness = Witness(broker.port, "p/l")
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        line.close()
        time.sleep(0.3)
        assert not witness.heard("status")
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        line.drop("gone")
        turn(line, lambda: bool(witness.heard("status")))
        assert witness.status()["state"] == "offline"
        line.close()
        witness.close()


def test_a_connection_that_ended_leaves_no_socket_behind() -> None:
    def sockets() -> int:
        return sum("socket:" in os.path.realpath(file) for file in Path("/proc/self/fd").iterdir())

    with Mosquitto() as broker:
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        gc.collect()
        gc.disable()
        try:
            before = sockets()
            for _ in range(3):
                line.drop("not acknowledged in time")
                broker.stop()
                turn(line, lambda: line.state is LinkState.CONNECTING)
                turn(line, lambda: line.state is LinkState.DOWN)
                broker.start()
                turn(line, lambda: line.state is LinkState.UP)
            assert sockets() == before
        finally:
            gc.enable()
        line.close()


def test_the_gateways_acknowledgements_are_received() -> None:
    with Mosquitto() as broker:
        witness = Witness(broker.port, "p/l")
        line = make_link(broker.port)
        turn(line, lambda: line.state is LinkState.UP)
        witness.say("top/ack", '{"event_id": "x", "result": "accepted"}')
        topics: list[str] = []

        def is_received() -> bool:
            topics.extend(message.topic for message in line.take_received())
            return topics == ["p/l/top/ack"]

        turn(line, is_received)
        line.close()
        witness.close()


def test_a_broker_that_cant_be_reached_is_one_line_with_the_fix() -> None:
    with pytest.raises(ConnectError, match=r"broker 127\.0\.0\.1:\d+ can't be reached: .*refused"):
        connect_once(MqttSettings(port=free_port()))
    with pytest.raises(ConnectError, match=r"unknown host; check mqtt\.host"):
        connect_once(MqttSettings(host="no-such-host.invalid"))


def test_a_wrong_password_is_one_line_with_the_fix() -> None:
    secret = MqttSettings(port=1, username="line", password="wrong")  # type: ignore[arg-type]
    with (
        Mosquitto(extra="allow_anonymous false") as broker,
        pytest.raises(ConnectError, match=r"check mqtt\.username and password") as refused,
    ):
        connect_once(secret.model_copy(update={"port": broker.port}))
    assert "wrong" not in str(refused.value)


@pytest.mark.timing
def test_200_rejects_a_second_without_a_subscriber_delay_no_first_sending(tmp_path: Path) -> None:
    with Mosquitto() as broker:
        result = unheard_rejects.measure(tmp_path, broker.port, rate=200.0, seconds=4.0)
    # A machine that stands still for a moment delays one sending; the fault of before delayed most of them.
    assert unheard_rejects.faults(result, share=0.99) == []
