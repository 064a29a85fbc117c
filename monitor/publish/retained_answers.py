"""The answers on one retained topic: they wait for the broker's room, in order, and the newest stays known.

It knows nothing of what is answered. An answer must never be sent before a verdict that waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from monitor.publish.mqtt_connection import LinkState
from monitor.publish.short_payload import RECIPE_EXTRAS, encode_short
from monitor.verdict import rfc3339

REPEAT_NS = 1_000_000_000
MOST_WAITING = 20
"""The most answers of one topic that wait while the broker is slow or away; above it the oldest are
dropped."""
Answer = Mapping[str, Any]


class Outlet(Protocol):
    """What the answers need of `monitor.publish.mqtt_connection.Link`."""

    state: LinkState
    generation: int

    @property
    def keeps_retained(self) -> bool: ...
    def payload_room(self, topic: str, *, qos: int = 1, expires: bool = False) -> int | None: ...
    def room(self, reserved: int = 1) -> int: ...
    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, ttl_ms: int | None = None
    ) -> int | None: ...


class RetainedAnswers:
    """The answers on one topic."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._waiting: deque[Answer] = deque(maxlen=MOST_WAITING)
        self.last: Answer | None = None
        """The newest answer, sent or waiting."""
        self._generation = 0
        """The number of the connection over which the last answer was sent."""
        self._repeat_ns = 0
        """When the last answer is due again, at a broker that keeps no retained messages."""

    def queue(self, answer: Answer) -> None:
        self._waiting.append(answer)
        self.last = answer

    def send(self, link: Outlet, now: int, utc_ns: int) -> None:
        """Sends the answers that wait, as far as the broker has room. The newest is sent again on each new
        connection, and every second where the broker keeps no retained messages."""
        if link.state is not LinkState.UP:
            return
        is_new = self._generation != link.generation
        is_due = not link.keeps_retained and now >= self._repeat_ns
        if (is_new or is_due) and not self._waiting and self.last is not None:
            self.queue(self.last)
        while self._waiting and link.room(reserved=0) > 0:
            payload = encode_answer(self._waiting[0], self._topic, link, utc_ns)
            if link.send(self._topic, payload, retain=True) is None:
                return
            self._generation, self._repeat_ns = link.generation, now + REPEAT_NS
            self._waiting.popleft()


def encode_answer(answer: Answer, topic: str, link: Outlet, utc_ns: int) -> bytes:
    """The answer with the time at which it is published, as short as the broker wants it."""
    return encode_short({**answer, "utc": rfc3339(utc_ns)}, RECIPE_EXTRAS, link.payload_room(topic))
