"""Rejects that the broker took while no client was subscribed: they are sent again until a client is.

It knows nothing of MQTT: its caller sends. It must never hold a reject beyond its time to live.

The journal's word for such a reject is `unheard`. An MQTT 5 broker may report it in its acknowledgement ("no
matching subscribers"): the gateway may be away for a moment, or not yet connected again after a restart of
the broker. While no client is subscribed, only the oldest of a camera's rejects is sent again, every 200 ms;
once a client receives one, all others are sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

AGAIN_NS = 200_000_000
"""The wait before the next sending while no client is subscribed, and after a refusal by the broker."""


class UnheardRejects(Generic[T]):
    """The rejects of one camera that no client received. `T` is what the caller holds for a reject; times are
    CLOCK_MONOTONIC nanoseconds."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, T]] = {}
        """The time of expiry and the reject, by frame number, in the order in which they were added."""
        self._sent: dict[int, tuple[int, int, int]] = {}
        """The frame number, the time of sending and the time of expiry, by message id, of the rejects that
        were sent again and wait for the broker's acknowledgement."""
        self._generation = 0
        self._due_ns = 0
        self.has_subscriber = True
        """False while the last acknowledgement reported that no client was subscribed."""

    def add(self, number: int, expires_ns: int, reject: T, now_ns: int) -> None:
        """Adds a reject whose first sending no client received."""
        self._waiting[number] = (expires_ns, reject)
        if self.has_subscriber:
            self.has_subscriber, self._due_ns = False, now_ns + AGAIN_NS

    def note_subscriber(self) -> None:
        """Notes that a client received a reject of this camera: all rejects that wait are due at once."""
        self.has_subscriber, self._due_ns = True, 0

    def forget(self, number: int) -> None:
        """Removes a reject that the gateway has acknowledged."""
        self._waiting.pop(number, None)

    def take_due(self, now_ns: int, generation: int) -> list[tuple[int, T]]:
        """The rejects to send now with their frame numbers, the oldest first. Expired ones are removed.

        `generation` is the number of the present connection: rejects that were sent over an earlier one and
        not acknowledged are due again.
        """
        if generation != self._generation:
            self._generation = generation
            self._sent.clear()
        for number in [number for number, (expires_ns, _) in self._waiting.items() if expires_ns <= now_ns]:
            del self._waiting[number]
        if now_ns < self._due_ns:
            return []
        unanswered = {number for number, *_ in self._sent.values()}
        due = [(number, reject) for number, (_, reject) in self._waiting.items() if number not in unanswered]
        if not self.has_subscriber:
            self._due_ns = now_ns + AGAIN_NS
            return due[:1] if not unanswered else []
        return due

    def note_sent(self, number: int, message: int, now_ns: int, expires_ns: int) -> None:
        """Notes that the caller has sent a reject again, as the message with that id."""
        self._sent[message] = (number, now_ns, expires_ns)

    def note_refused(self, messages: Iterable[int], now_ns: int) -> None:
        """Notes that the broker refused the messages with these ids. Rejects among them are due again after
        200 ms."""
        for message in messages:
            if self._sent.pop(message, None) is not None:
                self._due_ns = now_ns + AGAIN_NS

    def take_unacknowledged(self, now_ns: int) -> bool:
        """Returns whether a reject was not acknowledged by the broker within its time to live. Such rejects
        are removed, so that each is reported once."""
        expired = [message for message, (*_, expires_ns) in self._sent.items() if expires_ns <= now_ns]
        for message in expired:
            del self._sent[message]
        return bool(expired)

    def take_received(self, acknowledged: Iterable[int], unheard: set[int]) -> list[tuple[T, int]]:
        """The rejects that a client has received, with the time of sending of each. `acknowledged` are the
        message ids that the broker has acknowledged, `unheard` those of them that no client received."""
        received = []
        for message in [message for message in acknowledged if message in self._sent]:
            number, sent_ns, _ = self._sent.pop(message)
            if message in unheard:
                self.has_subscriber = False
            else:
                self.note_subscriber()
                if (found := self._waiting.pop(number, None)) is not None:
                    received.append((found[1], sent_ns))
        return received
