"""Rejects that the broker took while nobody listened, to be offered again until somebody does.

MQTT 5 brokers say so when they acknowledge ("no matching subscribers"): a gateway may be away for a moment,
or have yet to come back after the broker's restart. Of one camera's such rejects only one is offered at a
time, until one is heard; then all the others are. Must never keep a reject beyond its time to live, nor send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

AGAIN_NS = 200_000_000


class Unheard(Generic[T]):
    """One camera's. `T` is what a reject is to the caller; times are CLOCK_MONOTONIC nanoseconds."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, T]] = {}
        """By frame, in the order in which they became known: when it expires, and what it is."""
        self._offered: dict[int, tuple[int, int, int]] = {}
        """By message id: the frame, when it was offered, and when it expires."""
        self._generation = 0
        self._due_ns = 0
        self.is_alone = False
        """Whether nobody listened when it was last tried."""

    def add(self, number: int, expires_ns: int, reject: T, now_ns: int) -> None:
        """A reject that was sent for the first time, and heard by nobody."""
        self._waiting[number] = (expires_ns, reject)
        if not self.is_alone:
            self.is_alone, self._due_ns = True, now_ns + AGAIN_NS

    def somebody_listens(self) -> None:
        """Another of this camera's rejects was heard: those that wait are due at once."""
        self.is_alone, self._due_ns = False, 0

    def forget(self, number: int) -> None:
        """The gateway has spoken of it."""
        self._waiting.pop(number, None)

    def due(self, now_ns: int, generation: int) -> list[tuple[int, T]]:
        """Those to be offered now, the oldest first, by frame. `generation` counts connections: what was
        offered over an earlier one is open again."""
        if generation != self._generation:
            self._generation = generation
            self._offered.clear()
        for number in [number for number, (expires_ns, _) in self._waiting.items() if expires_ns <= now_ns]:
            del self._waiting[number]
        if now_ns < self._due_ns:
            return []
        under_way = {number for number, *_ in self._offered.values()}
        open_ = [(number, one) for number, (_, one) in self._waiting.items() if number not in under_way]
        if self.is_alone:
            self._due_ns = now_ns + AGAIN_NS
            return open_[:1] if not under_way else []
        return open_

    def offered(self, number: int, message: int, now_ns: int, expires_ns: int) -> None:
        self._offered[message] = (number, now_ns, expires_ns)

    def refused(self, messages: Iterable[int], now_ns: int) -> None:
        """The broker did not take these; what was among them is open again, after a while."""
        for message in messages:
            if self._offered.pop(message, None) is not None:
                self._due_ns = now_ns + AGAIN_NS

    def take_kept(self, now_ns: int) -> bool:
        """Whether the broker kept one of those that were offered over this connection to itself beyond its
        time to live. Said once; they are given up."""
        kept = [message for message, (*_, expires_ns) in self._offered.items() if expires_ns <= now_ns]
        for message in kept:
            del self._offered[message]
        return bool(kept)

    def acknowledged(self, messages: Iterable[int], unheard: set[int]) -> list[tuple[T, int]]:
        """What the broker says of those that were offered. Returns the ones that were heard, and when each
        had been sent."""
        heard = []
        for message in [message for message in messages if message in self._offered]:
            number, at, _ = self._offered.pop(message)
            if message in unheard:
                self.is_alone = True
            else:
                self.somebody_listens()
                if (found := self._waiting.pop(number, None)) is not None:
                    heard.append((found[1], at))
        return heard
