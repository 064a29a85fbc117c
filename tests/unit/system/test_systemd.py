"""The notifications to systemd: ready, the watchdog in time, and the status; and none without a socket."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest

from monitor.system.systemd import Notifier

S = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100 * S

    def __call__(self) -> int:
        return self.now


def received(listener: socket.socket) -> list[str]:
    messages = []
    listener.setblocking(False)
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_words_and_life_reach_the_managers_socket(abstract: bool, tmp_path: Path) -> None:
    name = f"@line-monitor-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    clock = Clock()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0") if abstract else name)
        manager = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "7"}, clock, 7)
        manager.report_ready()
        for _ in range(90):
            manager.feed_watchdog()
            manager.report_status(lambda: "ready;\n1 camera up")
            clock.now += S // 10
        manager.report_stopping()
        messages = received(listener)
    assert messages[0] == "READY=1"
    assert messages[-1] == "STOPPING=1\nSTATUS=stopping"
    assert messages.count("WATCHDOG=1") == 3, "three times within the watchdog's time limit"
    assert messages.count("STATUS=ready; 1 camera up") == 1, "sent when it changes, in one line"


def test_another_process_watchdog_is_not_fed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        Notifier(
            {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "7"},
            pid=8,
        ).feed_watchdog()
        assert received(listener) == []


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    place = str(tmp_path / "notify")
    gone = Notifier({"NOTIFY_SOCKET": place})
    gone.report_ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(place)
        for _ in range(2000):
            gone.report_ready()
        assert len(received(listener)) < 2000
    Notifier({}).report_ready()
