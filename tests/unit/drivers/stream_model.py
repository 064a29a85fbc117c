"""A made-up stream whose truth is known: when each image was due here, and what a clock makes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.arrival_clock import ArrivalClock
from drivers.stream_clock import StreamClock

MS = 1_000_000
S = 1_000_000_000

Span = tuple[float, float]
"""When something begins, and how long it lasts or how large it is, in seconds."""


@dataclass(frozen=True)
class Stream:
    """`drift` 0.05: the stamps run 5 % slow. `jitter_ms` is the most that an arrival scatters.

    `late_ms` is how late images are on average, most of them less and some up to 0.1 s. `stamp_jitter_ms` is
    by how much the stamps scatter (standard deviation), `stamp_late_ms` by how much at most they are late.
    `left_out` is the share of images that the camera left out.

    `network` and `reader` are spans in which no image gets through; those of the span come at once after it.
    `growth` is when a backlog begins to grow, and by how much a second."""

    seconds: float = 30
    period_ms: float = 100
    drift: float = 0
    jitter_ms: float = 0
    late_ms: float = 0
    stamp_jitter_ms: float = 0
    stamp_late_ms: float = 0
    left_out: float = 0
    steps: tuple[Span, ...] = ()
    network: tuple[Span, ...] = ()
    reader: tuple[Span, ...] = ()
    growth: Span | None = None
    restamp: Callable[[int, int], int | None] = field(default=lambda number, stamp: stamp)
    seed: int = 1
    always_waited: bool | None = None
    rested: bool = True

    @property
    def period(self) -> int:
        return round(self.period_ms * MS)


@dataclass(frozen=True)
class Dated:
    """One image. Times are nanoseconds; `due` is when it would have arrived without a wait and without
    jitter."""

    due: int
    arrival: int
    captured: int
    undated: str | None
    stuck: bool

    @property
    def too_new_ms(self) -> float:
        return (self.captured - self.due) / MS

    @property
    def waited_ms(self) -> float:
        return (self.arrival - self.due) / MS

    @property
    def age_ms(self) -> float:
        return (self.arrival - self.captured) / MS


def play(stream: Stream, clock: StreamClock | ArrivalClock | None = None) -> list[Dated]:
    """What the clock makes of the stream, until the driver would connect again."""
    clock = clock or StreamClock(120)
    chance = random.Random(stream.seed)
    images: list[Dated] = []
    before = 0
    for number in range(round(stream.seconds * S) // stream.period):
        due = number * stream.period
        if stream.left_out and chance.random() < stream.left_out:
            continue
        stamp = round(due * (1 - stream.drift)) + sum(
            round(by * S) for at, by in stream.steps if due >= at * S
        )
        stamp += round(_scatter(stream, chance) * MS)
        arrival = due + round(chance.uniform(0, stream.jitter_ms) * MS)
        if stream.late_ms:
            arrival += round(min(chance.expovariate(1 / stream.late_ms), 100) * MS)
        if stream.growth and due > stream.growth[0] * S:
            arrival += round((due - stream.growth[0] * S) * stream.growth[1])
        arrival = max(_held(arrival, stream.network), before + MS // 2)
        taken = max(_held(arrival, stream.reader), before + MS // 2)
        waited = taken == arrival and arrival - before > 2 * MS
        if stream.always_waited is not None:
            waited = stream.always_waited
        before = taken
        captured = clock.captured(stream.restamp(number, stamp), taken, waited, stream.rested)
        images.append(Dated(due, taken, captured, clock.undated, clock.stuck(taken)))
        if images[-1].stuck:
            break
    return images


def _scatter(stream: Stream, chance: random.Random) -> float:
    if not stream.stamp_jitter_ms and not stream.stamp_late_ms:
        return 0
    return chance.gauss(0, stream.stamp_jitter_ms) + chance.uniform(0, stream.stamp_late_ms)


def _held(time: int, spans: tuple[Span, ...]) -> int:
    for at, lasts in spans:
        if at * S <= time < (at + lasts) * S:
            time = round((at + lasts) * S)
    return time


def dated_new_too_late(images: list[Dated]) -> list[Dated]:
    """Images that waited and are dated more than 100 ms too new."""
    return [image for image in images if image.too_new_ms > 100 and not image.undated]


def lost_though_on_time(images: list[Dated], on_time_ms: float = 50) -> list[Dated]:
    """Images that came on time and are dated so old that a deadline of 250 ms leaves no time, or not at
    all."""
    return [
        image
        for image in images
        if image.waited_ms <= on_time_ms and (image.age_ms > 150 or image.undated or image.stuck)
    ]
