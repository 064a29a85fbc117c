"""The service's notifications to systemd: ready, alive, and its state in words (sd_notify(3)).

Without $NOTIFY_SOCKET nothing is sent. A notification must never block or stop the supervisor, also where
systemd does not read its socket.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

_STATUS_EVERY_NS = 1_000_000_000


class Notifier:
    """The socket to systemd. `environment` is read once."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], int] = time.monotonic_ns,
        pid: int | None = None,
    ) -> None:
        self._clock = clock
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract socket's name (unix(7)).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self._feed_every_ns = _feeding_interval_ns(environment, os.getpid() if pid is None else pid)
        self._feed_at_ns = 0
        self._sent_status = ""
        self._status_due_ns = 0

    def report_ready(self) -> None:
        self._send("READY=1")

    def report_stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def feed_watchdog(self) -> None:
        """Feeds the watchdog three times within its time limit, if there is one."""
        now = self._clock()
        if self._feed_every_ns and now >= self._feed_at_ns:
            self._feed_at_ns = now + self._feed_every_ns
            self._send("WATCHDOG=1")

    def report_status(self, make_text: Callable[[], str]) -> None:
        """Sends the state in words when it has changed. Calls `make_text` at most once a second."""
        now = self._clock()
        if self._socket is None or now < self._status_due_ns:
            return
        self._status_due_ns = now + _STATUS_EVERY_NS
        status = " ".join(make_text().split())
        if status != self._sent_status and self._send(f"STATUS={status}"):
            self._sent_status = status

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            # The socket is full or gone. Status and watchdog are sent again; when systemd never gets the
            # watchdog's message, it restarts the service, as intended.
            return False
        return True


def _feeding_interval_ns(environment: Mapping[str, str], pid: int) -> int:
    """A third of $WATCHDOG_USEC; 0 without a watchdog, or with one that watches another process."""
    watched = environment.get("WATCHDOG_PID", "")
    if watched.isdecimal() and int(watched) != pid:
        return 0
    limit_us = environment.get("WATCHDOG_USEC", "")
    return int(limit_us) * 1000 // 3 if limit_us.isdecimal() else 0
