"""How long a request may take to come in: a byte now and then must not hold a connection for ever.

waitress closes connections that are idle; this closes those that are never done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from waitress.channel import HTTPChannel


class Patience:
    """Looks at a server's connections, which waitress keeps in `map`, and ends those that take too long."""

    def __init__(
        self, map_: Mapping[int, Any], limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._map, self._limit_s, self._clock = map_, limit_s, clock
        self._since: dict[int, tuple[object, float]] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="patience", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def step(self) -> None:
        """One look: a request that was begun and is the same as long ago has had its time."""
        begun = {}
        for number, channel in tuple(self._map.items()):
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
