"""Closes connections whose request takes too long to arrive.

It knows nothing of the page. waitress closes idle connections only; a client that sends one byte now and then
would hold a connection for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from waitress.channel import HTTPChannel


class RequestTimeout:
    """Closes the connections above the limit; waitress keeps all of them in `connections`."""

    def __init__(
        self, connections: Mapping[int, Any], limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connections, self._limit_s, self._clock = connections, limit_s, clock
        self._since: dict[int, tuple[object, float]] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="request timeout", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def step(self) -> None:
        """Closes each connection whose unfinished request began more than `limit_s` seconds ago."""
        begun = {}
        for number, channel in tuple(self._connections.items()):
            request = getattr(channel, "request", None)
            if not isinstance(channel, HTTPChannel) or request is None:
                continue
            before = self._since.get(number)
            since = before[1] if before is not None and before[0] is request else self._clock()
            begun[number] = (request, since)
            if self._clock() - since > self._limit_s:
                channel.will_close = True
        self._since = begun

    def _run(self) -> None:
        while not self._ended.wait(min(1.0, self._limit_s / 2)):
            self.step()
