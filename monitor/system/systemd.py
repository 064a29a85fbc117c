"""What systemd hears of the service: ready, alive, and its state in words (sd_notify(3)).

Without $NOTIFY_SOCKET nobody listens and nothing is sent. It must never block the supervisor, nor fail it:
a manager that does not read its socket has only itself to blame.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

_STATUS_EVERY_NS = 1_000_000_000


class Notifier:
    """The socket to the service manager. `environment` is read once."""

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
        self._told = ""
        self._tell_at_ns = 0

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """Feeds the watchdog, three times within its patience, if it has one."""
        now = self._clock()
        if self._feed_every_ns and now >= self._feed_at_ns:
            self._feed_at_ns = now + self._feed_every_ns
            self._send("WATCHDOG=1")

    def status(self, words: Callable[[], str]) -> None:
        """Tells the state in words when it has changed; asks for it at most once a second."""
        now = self._clock()
        if self._socket is None or now < self._tell_at_ns:
            return
        self._tell_at_ns = now + _STATUS_EVERY_NS
        said = " ".join(words().split())
        if said != self._told and self._send(f"STATUS={said}"):
            self._told = said

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            # Full or gone. What counts is said again; a watchdog that starves restarts us, as it should.
            return False
        return True


def _feeding_interval_ns(environment: Mapping[str, str], pid: int) -> int:
    """A third of WATCHDOG_USEC, or 0 where there is no watchdog or it watches another process."""
    watched = environment.get("WATCHDOG_PID", "")
    if watched.isdecimal() and int(watched) != pid:
        return 0
    patience = environment.get("WATCHDOG_USEC", "")
    return int(patience) * 1000 // 3 if patience.isdecimal() else 0
