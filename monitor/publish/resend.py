"""Rejects that the broker took while no client was subscribed: they are offered again until a client is.

It knows nothing of MQTT: its caller sends. It must never hold a reject beyond its time to live, and offers
again only as many at a time as its caller allows, so that no first sending waits for them.

The journal's word for such a reject is `unheard`. An MQTT 5 broker may report it in its acknowledgement ("no
matching subscribers"): the gateway may be away for a moment, or not yet connected again after a restart of
the broker. While no client is subscribed, only the newest of a camera's rejects is offered again, 200 ms
after the last report: the first sending of a new reject reports as well as a repetition. Once a client has
received one, all others are offered, the newest first, because the newest has the most time left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

AGAIN_NS = 200_000_000
"""The wait before the next offer while no client is subscribed, and after a refusal by the broker."""
_LEAST_LEFT_NS = 50_000_000
"""A reject with less time to live is not offered again: a gateway could hardly act on it."""
_PATIENCE_NS = 500_000_000
"""The broker has at least this time to acknowledge an offer, even where the reject expires sooner."""
_MOST_WAITING = 1000
"""The most rejects of a camera that are kept to be offered again; above it the oldest are given up."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """A reject that was sent again and waits for the broker's acknowledgement."""

    number: int
    sent_ns: int
    expires_ns: int


class UnheardRejects(Generic[T]):
    """The rejects of one camera that no client received. `T` is what the caller holds for a reject; times are
    CLOCK_MONOTONIC nanoseconds."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, tuple[int, T]] = OrderedDict()
        """The time of expiry and the reject, by frame number, the oldest first."""
        self._offers: dict[int, _Offer] = {}
        """By message id."""
        self._generation = 0
        self._due_ns = 0
        self.has_subscriber = True
        """False while the last acknowledgement reported that no client was subscribed."""

    def use_connection(self, generation: int) -> None:
        """Begins with that connection, by its number: message ids of an earlier one mean nothing on it, and
        what was offered over it is to be offered again. Call it before the other functions."""
        if generation != self._generation:
            self._generation = generation
            self._offers.clear()

    def add(self, number: int, expires_ns: int, reject: T, now_ns: int) -> None:
        """Adds a reject whose first sending no client received."""
        self._waiting[number] = (expires_ns, reject)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        self._note_no_subscriber(now_ns)

    def note_subscriber(self) -> None:
        """Notes that a client received a reject of this camera: all rejects that wait are due at once."""
        self.has_subscriber, self._due_ns = True, 0

    def _note_no_subscriber(self, now_ns: int) -> None:
        self.has_subscriber, self._due_ns = False, now_ns + AGAIN_NS

    def forget(self, number: int) -> None:
        """Removes a reject that the gateway has acknowledged."""
        self._waiting.pop(number, None)

    def take_due(self, now_ns: int, most: int) -> list[tuple[int, T]]:
        """The rejects to offer again now with their frame numbers, the newest first and at most `most`.
        Expired ones are removed."""
        while self._waiting and next(iter(self._waiting.values()))[0] <= now_ns:
            self._waiting.popitem(last=False)
        if now_ns < self._due_ns:
            return []
        if not self.has_subscriber:
            most = min(most, 1 - len(self._offers))
        offered = {offer.number for offer in self._offers.values()}
        due: list[tuple[int, T]] = []
        for number, (expires_ns, reject) in reversed(self._waiting.items()):
            if len(due) >= most:
                break
            if number not in offered and expires_ns - now_ns >= _LEAST_LEFT_NS:
                due.append((number, reject))
        if due and not self.has_subscriber:
            self._due_ns = now_ns + AGAIN_NS
        return due

    def note_sent(self, number: int, message: int, now_ns: int, expires_ns: int) -> None:
        """Notes that the caller has sent a reject again, as the message with that id."""
        self._offers[message] = _Offer(number, now_ns, expires_ns)

    def note_refused(self, messages: Iterable[int], now_ns: int) -> None:
        """Notes that the broker refused the messages with these ids. Rejects among them are due again after
        200 ms."""
        for message in messages:
            if self._offers.pop(message, None) is not None:
                self._due_ns = now_ns + AGAIN_NS

    def forget_overdue(self, now_ns: int) -> None:
        """Removes the offers that the broker did not acknowledge within the reject's time to live and 500 ms.
        The connection stays: it carries first sendings, which show by themselves whether it works."""
        self._offers = {
            message: offer
            for message, offer in self._offers.items()
            if max(offer.expires_ns, offer.sent_ns + _PATIENCE_NS) > now_ns
        }

    def take_received(
        self, acknowledged: Iterable[int], unheard: set[int], now_ns: int
    ) -> list[tuple[T, int]]:
        """The rejects that a client has received, with the time of sending of each. `acknowledged` are the
        message ids that the broker has acknowledged, `unheard` those of them that no client received."""
        received = []
        for message in [message for message in acknowledged if message in self._offers]:
            offer = self._offers.pop(message)
            if message in unheard:
                self._note_no_subscriber(now_ns)
            else:
                self.note_subscriber()
                if (found := self._waiting.pop(offer.number, None)) is not None:
                    received.append((found[1], offer.sent_ns))
        return received
