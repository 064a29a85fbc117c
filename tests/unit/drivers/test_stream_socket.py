"""Whether the network rests between images is seen from the bytes that arrive, without reading any."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from drivers.stream_socket import count_waiting, find_connection, is_at_rest, list_sockets

MS = 1_000_000
PERIOD = 100 * MS


class Network:
    """A made-up clock, and bytes that arrive by it."""

    def __init__(self, bytes_at: Callable[[float], int], delay_ms: float = 0) -> None:
        self.now, self._bytes_at, self._delay_ms = 0, bytes_at, delay_ms

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9 + self._delay_ms * MS)

    def waiting(self) -> int:
        return self._bytes_at(self.now / MS)


@pytest.mark.parametrize(
    ("bytes_at", "delay_ms", "rests"),
    [
        (lambda ms: 0, 0, True),
        (lambda ms: int(min(ms, 10) * 1000), 0, True),
        (lambda ms: int(min(ms, 40) * 1000), 0, True),
        (lambda ms: int(ms * 1000), 0, False),
        (lambda ms: int(ms // 15), 0, False),
        (lambda ms: int(ms // 30), 25, False),
        (lambda ms: 0, 30, True),
    ],
)
def test_rest_is_a_fifth_of_the_period_without_a_byte(
    bytes_at: Callable[[float], int], delay_ms: float, rests: bool
) -> None:
    network = Network(bytes_at, delay_ms)
    assert is_at_rest(network.waiting, 0, PERIOD, network.clock, network.sleep) is rests
    assert network.now <= 0.75 * PERIOD + (delay_ms + 20) * MS


def test_a_reader_that_comes_late_does_not_wait() -> None:
    network = Network(lambda ms: 0)
    network.now = 60 * MS
    assert not is_at_rest(network.waiting, 0, PERIOD, network.clock, network.sleep)
    assert network.now == 60 * MS


def test_a_slow_camera_is_watched_for_a_tenth_of_a_second_and_a_closed_socket_tells_nothing() -> None:
    network = Network(lambda ms: int(ms * 1000))
    assert not is_at_rest(network.waiting, 0, 20 * PERIOD, network.clock, network.sleep)
    assert network.now <= 110 * MS
    closed = socket.create_server(("127.0.0.1", 0))
    number = closed.fileno()
    closed.close()
    assert not is_at_rest(lambda: count_waiting(number), 0, PERIOD, lambda: 0, lambda seconds: None)


def test_the_new_connection_is_found_and_its_bytes_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        before = list_sockets()
        with socket.create_connection(server.getsockname()) as mine:
            port = server.getsockname()[1]
            assert find_connection(before, port) == mine.fileno()
            assert find_connection(before, port + 1) is None
            with socket.create_connection(server.getsockname()):
                assert find_connection(before, port) is None, "two connections are new"
            theirs, _ = server.accept()
            with theirs:
                assert find_connection(before, port) == mine.fileno(), "this is the camera's end, not ours"
                theirs.sendall(b"12345")
                mine.recv(1)
                assert count_waiting(mine.fileno()) == 4
                assert mine.recv(10) == b"2345"
