"""Follows every part of a line under faults from its capture to the gate, and reports what is wrong with it.

It reads new frames from the rings, reports each part to the gateway as a light barrier does, also parts that
pass a camera while it gives no frames, and receives all messages with its own witness. It must never
influence the line: it maps the rings read-only.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from monitor.line_state.frame import Frame
from monitor.line_state.ring import Ring, RingError, Stage, Tally
from monitor.verdict import Reason, Verdict
from tests.real import gateway
from tests.real.line import Line

Truth = Callable[[Frame], bool]
"""Whether the part in a frame is bad."""

_ARRIVES_S = 0.15
"""Longest time of a message through the broker to a witness on a busy machine."""
_UNDELIVERED_S = 0.5
"""Messages that the broker took in this time before a witness lost its connection may be lost."""
_SLOW = 3
"""On a busy machine this many messages may take longer than the gateway waits. It then removes their parts,
which is right."""
_STRAY_S = 1.0
"""A message may arrive before its frame was read from the ring, but not this long before."""
_APART = 0.75
"""Shortest distance of two parts, in periods of their camera."""
_SHOWS_S = 0.5
"""Longest time from a capture until its frame is in the ring. A part without a frame by then has none."""


class PartId(NamedTuple):
    """One frame of one line: `frame` counts up by one from 1 in a session of the service."""

    camera: str
    session: str
    frame: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message about a part as the witness received it; `at` is time.monotonic()."""

    event_id: str
    verdict: str
    topic: str
    at: float


@dataclass(slots=True)
class Part:
    """Everything that is known of one part."""

    id: PartId
    captured_ns: int
    expires_ns: int
    bad: bool
    verdict: Verdict | None = None
    reason: Reason = Reason.NONE
    stage: Stage = Stage.CLOSED
    scored_ns: int | None = None
    sent_ns: int | None = None
    told: set[tuple[str, str]] = field(default_factory=set)
    """Every (event_id, verdict) that the witness received for it."""
    told_on: set[str] = field(default_factory=set)
    """The topics of its messages, `verdict` and `reject`."""
    heard_at: float | None = None
    """The time.monotonic() of its first message."""
    last_heard_at: float | None = None
    removed: bool | None = None
    """The gateway's action; None until the part is at the gate."""
    abandoned: bool = False
    """The whole service was killed before the part had a verdict, so none can follow."""

    @property
    def captured_at(self) -> float:
        return self.captured_ns / 1e9

    @property
    def name(self) -> str:
        return f"{self.id.camera} {self.id.frame} of {self.id.session[:8]}"

    def told_in_time(self) -> str | None:
        """The one verdict that arrived before the part reached the gate."""
        if self.heard_at is None or self.heard_at > self.expires_ns / 1e9:
            return None
        words = {word for _, word in self.told}
        return words.pop() if len(words) == 1 else None


@dataclass(frozen=True, slots=True)
class Window:
    """A time span in seconds of time.monotonic()."""

    start: float
    end: float

    def __contains__(self, at: float) -> bool:
        return self.start <= at < self.end


@dataclass(slots=True)
class Unseen:
    """A bad part that passed a camera while the camera gave no frames. `at` is time.monotonic()."""

    camera: str
    at: float
    removed: bool | None = None


@dataclass(frozen=True, slots=True)
class Quiet:
    """How well parts were judged in times without a fault."""

    parts: int
    judged: int
    right: int
    passed: int
    """Good parts whose `pass` arrived in time."""
    let_through: int
    """Number of these parts that the gateway did not remove."""

    def breaches(self) -> list[str]:
        wrong = []
        if self.judged < 0.99 * self.parts:
            wrong.append(f"outside faults only {self.judged} of {self.parts} parts were judged")
        if self.right < 0.95 * self.judged:
            wrong.append(f"outside faults only {self.right} of {self.judged} verdicts were right")
        if self.passed - self.let_through > max(_SLOW, 0.01 * self.passed):
            wrong.append(
                f"outside faults only {self.let_through} of {self.passed} good parts with a pass in time "
                "were let through"
            )
        return wrong


def quiet(parts: Iterable[Part], broken: Sequence[Window]) -> Quiet:
    """Count the parts that were captured outside the times of faults, by the messages that a gateway received
    in time. A verdict that is only in the ring does not count."""
    chosen = [part for part in parts if not any(part.captured_at in window for window in broken)]
    told = [(part, part.told_in_time()) for part in chosen]
    judged = [(part, word) for part, word in told if word in (Verdict.PASS.word, Verdict.REJECT.word)]
    right = sum((word == Verdict.REJECT.word) == part.bad for part, word in judged)
    passed = [part for part, word in judged if word == Verdict.PASS.word and not part.bad]
    let_through = sum(part.removed is False for part in passed)
    return Quiet(len(chosen), len(judged), right, len(passed), let_through)


def unseen_between(last: float, end: float, period: float) -> list[float]:
    """The times at which parts passed a camera after `last`, one each period, as long as they are not too
    close to `end`, in seconds. Empty if the frames come at their usual times."""
    most = int((end - last) / period) + 1
    passed = (last + nth * period for nth in range(1, most))
    return [at for at in passed if at <= end - _APART * period]


def unseen_breaches(unseen: Iterable[Unseen]) -> list[str]:
    """What is wrong with parts that have no frame: there must be no message about them."""
    words = {False: "was let through", None: "never came to a decision of the gateway"}
    return [
        f"{part.camera}: a part that passed it unseen at {part.at:.2f} s {words[part.removed]}"
        for part in unseen
        if part.removed is not True
    ]


def breaches(
    parts: Iterable[Part], held_back: Sequence[Window] = (), deaf: Sequence[Window] = ()
) -> list[str]:
    """What is wrong with these completed parts; empty if each had one verdict in time and the gate acted.
    `held_back` are the times in which the broker, not the line, may have delayed a message. `deaf` are the
    times in which the witness may have missed a message that the broker received."""
    wrong = []
    for part in parts:
        wrong += [f"{part.name} {what}" for what in _part_breaches(part, held_back, deaf)]
    return wrong


def _part_breaches(part: Part, held_back: Sequence[Window], deaf: Sequence[Window]) -> Iterator[str]:
    if part.verdict is None and not part.abandoned:
        yield "has no verdict"
    if len(part.told) > 1:
        yield f"has two verdicts: {sorted(part.told)}"
    if part.told and part.verdict is not None and {said for _, said in part.told} != {part.verdict.word}:
        yield f"is {part.verdict.word} in the ring, but {sorted(part.told)} was told"
    if part.sent_ns is not None and part.sent_ns >= part.expires_ns:
        yield f"was sent {(part.sent_ns - part.expires_ns) / 1e6:.0f} ms after its expiry"
    expired = part.expires_ns / 1e9
    for at in sorted({at for at in (part.heard_at, part.last_heard_at) if at is not None}):
        if at > expired + _ARRIVES_S and not any(at in window for window in held_back):
            yield f"was heard of {at - expired:.2f} s after its expiry"
    if "reject" in part.told_on and any(word == Verdict.PASS.word for _, word in part.told):
        yield "has a pass, and was told to the gate as one to remove"
    if unheard := _missing_topics(part, deaf):
        yield f"is {part.stage.name} in the ring, and was not heard of on {', '.join(unheard)}"
    if part.removed is None:
        yield "never came to a decision of the gateway"
    if part.bad and part.removed is False:
        yield f"is bad and was let through: {part.verdict}, {sorted(part.told)}"
    if part.removed is False and part.verdict is not Verdict.PASS:
        yield f"was let through, and is {part.verdict and part.verdict.word} in the ring"


def _missing_topics(part: Part, deaf: Sequence[Window]) -> list[str]:
    """The topics on which a message of the part is missing although the ring records that it was sent. Every
    camera of the plant judges every part, and every verdict but `pass` must reach the gate. A reject without
    a subscriber is sent again, so its verdict was sent long before, at some time after its capture."""
    if part.stage not in (Stage.SENT, Stage.ACKNOWLEDGED):
        return []
    if part.sent_ns is not None and any(
        window.start <= part.sent_ns / 1e9 and part.captured_at < window.end for window in deaf
    ):
        return []
    due = {"verdict"} if part.verdict is Verdict.PASS else {"verdict", "reject"}
    return sorted(due - part.told_on)


def compare_counts(parts: Iterable[Part], tally: Tally, overruns: int) -> list[str]:
    """Differences between a ring's counts and the audit's own counts of all its parts."""
    wrong = [f"capture refused {overruns} exposures"] if overruns else []
    done = [part for part in parts if part.id.frame <= tally.cursor]
    if len(done) != tally.cursor:
        wrong.append(f"{tally.cursor} frames are done with, {len(done)} parts were seen")
    verdicts = Counter(part.verdict for part in done)
    reasons = Counter(part.reason for part in done if part.verdict is Verdict.UNINSPECTED)
    told: dict[str, tuple[int, int]] = {
        "passed": (tally.passed, verdicts[Verdict.PASS]),
        "rejected": (tally.rejected, verdicts[Verdict.REJECT]),
        **{
            f"uninspected for {reason.name.lower()}": (tally.uninspected[reason], reasons[reason])
            for reason in Reason
        },
    }
    wrong += [
        f"{theirs} {what} by the ring, {ours} parts"
        for what, (theirs, ours) in told.items()
        if theirs != ours
    ]
    return wrong


def find_strays(early: Mapping[PartId, Sequence[Message]], now: float) -> list[str]:
    """Parts that have messages but are in no ring. `now` is time.monotonic()."""
    return [
        f"{id.camera} {id.frame} of {id.session[:8]} was told of, and is in no ring"
        for id, said in early.items()
        if said and min(one.at for one in said) < now - _STRAY_S
    ]


class Audit:
    """`with Audit(line, truths, periods_s) as audit:` follows the parts in its own thread.

    `periods_s` is, by camera, the time between two parts, whether the camera gives a frame or not.
    """

    def __init__(
        self, line: Line, truths: Mapping[str, Truth], periods_s: Mapping[str, float] | None = None
    ) -> None:
        self._line, self._truths, self._periods_s = line, truths, dict(periods_s or {})
        self.gateway: gateway.Gateway | None = None
        self._parts: dict[PartId, Part] = {}
        self._unseen: list[Unseen] = []
        self._at_barrier: dict[gateway.Part, Part | Unseen] = {}
        """Parts that have not reached the gate, by the gateway's key."""
        self._last_seen: dict[str, tuple[float, float]] = {}
        """By camera, the time.monotonic() at which the last part passed, and its time to the gate."""
        self._rings: dict[str, tuple[int, Ring]] = {}
        self._seen: dict[str, int] = dict.fromkeys(truths, 0)
        self._settled: dict[str, int] = dict.fromkeys(truths, 0)
        self._heard: dict[str, float] = {}
        self._early: dict[PartId, list[Message]] = {}
        """Messages about parts whose frames were not read yet."""
        self._trouble: list[str] = []
        self._lock, self._closing = threading.RLock(), False
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Audit:
        self._thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._closing = True
        self._thread.join()
        for _, ring in self._rings.values():
            ring.close()

    def at_gate(self, part: gateway.Part, removed: bool) -> None:
        """The `act` of the gateway."""
        with self._lock:
            self._at_barrier.pop(part).removed = removed

    def parts(self, window: Window | None = None) -> list[Part]:
        """All parts, or those captured in a time span, as far as is known now."""
        with self._lock:
            return [part for part in self._parts.values() if window is None or part.captured_at in window]

    def unseen(self, window: Window | None = None) -> list[Unseen]:
        """The parts that passed a camera while it gave no frames: all of them, or those of a time span."""
        with self._lock:
            return [part for part in self._unseen if window is None or part.at in window]

    def await_settled(self, window: Window, within_s: float = 5.0) -> list[Part]:
        """The parts captured in a time span, after each has its verdict and is past the gate, or after the
        wait has become too long."""
        until = time.monotonic() + within_s
        while True:
            parts = self.parts(window)
            settled = (part.removed is not None and (part.abandoned or part.stage.is_final) for part in parts)
            if all(settled) or time.monotonic() > until:
                return parts
            time.sleep(0.05)

    def trouble(self) -> list[str]:
        """Errors of the audit itself, and its differences from the rings' counts."""
        ended = not self._thread.is_alive() and not self._closing
        with self._lock:
            for camera, (_, ring) in self._rings.items():
                tally = ring.tally()
                self._read(camera)
                self._recount(camera, ring, tally)
            wrong = [*self._trouble, *find_strays(self._early, time.monotonic())]
        return [*wrong, "the audit's thread has ended"] if ended else wrong

    def deaf(self) -> list[Window]:
        """The times in which the witness may have missed messages that the broker received."""
        return [Window(start - _UNDELIVERED_S, end) for start, end in self._line.witness.deaf()]

    def read_final_frames(self) -> None:
        """Read what the line closed at its end. Called after the line was stopped."""
        with self._lock:
            for camera in self._truths:
                self._read(camera)
            self._hear()

    def _follow(self) -> None:
        while not self._closing:
            with self._lock:
                for camera in self._truths:
                    self._open(camera)
                    now = time.monotonic()
                    self._read(camera)
                    # This comes last, because the ring's frames had to be read first, and some may be as old.
                    self._pass_unseen(camera, now - _SHOWS_S)
                self._hear()
            time.sleep(0.01)

    def _open(self, camera: str) -> None:
        """Open the camera's ring, and the next ring after a new start of the service."""
        known = self._rings.get(camera)
        with contextlib.suppress(OSError, RingError):  # between a stop and a start there is no ring
            file = self._line.folder / f"{camera}.ring"
            inode = file.stat().st_ino
            if known and known[0] == inode:
                return
            ring = Ring(self._line.folder, camera, writable=False)
            if known:
                self._read(camera)
                self._abandon(camera, known[1])
            self._rings[camera] = (inode, ring)
            self._seen[camera] = self._settled[camera] = 0

    def _abandon(self, camera: str, ring: Ring) -> None:
        session = str(ring.session)
        for number in range(self._settled[camera] + 1, self._seen[camera] + 1):
            part = self._parts[PartId(camera, session, number)]
            self._take(part, ring)
            part.abandoned = part.verdict is None or not part.stage.is_final
        self._recount(camera, ring, ring.tally())
        ring.close()

    def _recount(self, camera: str, ring: Ring, tally: Tally) -> None:
        session = str(ring.session)
        parts = [part for id, part in self._parts.items() if (id.camera, id.session) == (camera, session)]
        for one in compare_counts(parts, tally, ring.overruns()):
            if (what := f"{camera} of {session[:8]}: {one}") not in self._trouble:
                self._trouble.append(what)

    def _read(self, camera: str) -> None:
        if camera not in self._rings:
            return
        ring = self._rings[camera][1]
        session = str(ring.session)
        last = ring.last_frame()
        while self._seen[camera] < last:
            self._seen[camera] += 1
            frame = ring.frame(self._seen[camera])
            if frame is None:
                self._trouble.append(f"{camera}: frame {self._seen[camera]} is not in the ring")
                continue
            self._enter(PartId(camera, session, frame.number), frame)
        cursor = ring.tally().cursor
        while self._settled[camera] < min(cursor, self._seen[camera]):
            self._settled[camera] += 1
            self._take(self._parts[PartId(camera, session, self._settled[camera])], ring)

    def _enter(self, id: PartId, frame: Frame) -> None:
        part = Part(id, frame.captured_ns, frame.expires_ns, self._truths[id.camera](frame))
        self._parts[id] = part
        for said in self._early.pop(id, []):
            self._note(part, said)
        self._pass_unseen(id.camera, part.captured_at)
        self._pass_barrier(id.camera, part.captured_at, frame.expires_ns / 1e9, part)
        last, _ = self._last_seen.get(id.camera, (0.0, 0.0))
        reach = (frame.expires_ns - frame.captured_ns) / 1e9
        self._last_seen[id.camera] = (max(last, part.captured_at), reach)

    def _pass_unseen(self, camera: str, end: float) -> None:
        """Add the parts that pass a camera without frames, up to `end` in time.monotonic()."""
        if camera not in self._last_seen or camera not in self._periods_s:
            return
        last, reach = self._last_seen[camera]
        for at in unseen_between(last, end, self._periods_s[camera]):
            unseen = Unseen(camera, at)
            self._unseen.append(unseen)
            self._pass_barrier(camera, at, at + reach, unseen)
            self._last_seen[camera] = (at, reach)

    def _pass_barrier(self, camera: str, at: float, gate_at: float, part: Part | Unseen) -> None:
        """This uses the clock of this machine, not the time that the line believes."""
        if self.gateway is not None:
            seen_utc = at + time.time() - time.monotonic()
            self._at_barrier[self.gateway.part_passes(camera, seen_utc, gate_at)] = part

    def _take(self, part: Part, ring: Ring) -> None:
        closed = ring.final_verdict(part.id.frame)
        if closed is not None:
            part.verdict, part.reason = closed.verdict, closed.reason
        scored = ring.scorer_verdict(part.id.frame)
        if scored is not None:
            part.scored_ns = scored.scored_ns
        part.stage, part.sent_ns = ring.stage(part.id.frame), ring.sent_ns(part.id.frame)

    def _hear(self) -> None:
        for camera in self._truths:
            for topic in (f"{camera}/verdict", f"{camera}/reject"):
                for message in self._line.witness.heard(topic, since=self._heard.get(topic, 0.0)):
                    self._heard[topic] = message.at
                    payload = message.payload
                    if "schema" not in payload:
                        # This is an invalid message of another sender. If the line sent it, the part's
                        # verdict is reported as missing.
                        continue
                    id = PartId(payload["camera"], payload["session"], payload["frame"])
                    said = Message(
                        payload["event_id"], payload["verdict"], topic.rpartition("/")[2], message.at
                    )
                    if id in self._parts:
                        self._note(self._parts[id], said)
                    else:
                        self._early.setdefault(id, []).append(said)

    @staticmethod
    def _note(part: Part, said: Message) -> None:
        part.told.add((said.event_id, said.verdict))
        part.told_on.add(said.topic)
        if part.heard_at is None or said.at < part.heard_at:
            part.heard_at = said.at
        if part.last_heard_at is None or said.at > part.last_heard_at:
            part.last_heard_at = said.at
