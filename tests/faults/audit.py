"""The books of a whole line under fault: every part from its capture to the gate, and what is wrong with it.

It follows the rings as they fill, tells the gateway of each part as a light barrier would, also of those that
pass a camera while it gives no frames, and hears with a witness of its own what was said. It must never
influence the line: rings are mapped for reading alone.
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
"""Whether the part in that frame is bad."""

_ARRIVES_S = 0.15
"""How long a message may take through the broker and to a witness on a busy machine."""
_UNDELIVERED_S = 0.5
"""What the broker took so long before a witness lost it may be lost with the connection."""
_SLOW = 3
"""So many messages may take longer than the gateway waits for them on a busy machine: it removes their parts,
as it should."""
_STRAY_S = 1.0
"""A message may be heard of before its frame was looked at, but not for so long."""
_APART = 0.75
"""Parts are no closer together than that, in periods of their camera."""
_SHOWS_S = 0.5
"""A frame is in its ring so soon after its capture: a part without one then has none."""


class PartId(NamedTuple):
    """One frame of one line: `frame` counts up by one from 1 in a session of the service."""

    camera: str
    session: str
    frame: int


@dataclass(frozen=True, slots=True)
class Said:
    """One message about a part as the witness heard it; `at` is time.monotonic()."""

    event_id: str
    verdict: str
    topic: str
    at: float


@dataclass(slots=True)
class Part:
    """One part's whole story."""

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
    """Every (event_id, verdict) the witness heard of it."""
    told_on: set[str] = field(default_factory=set)
    """The topics it was heard on, `verdict` and `reject`."""
    heard_at: float | None = None
    """When it was first heard of, time.monotonic()."""
    last_heard_at: float | None = None
    removed: bool | None = None
    """What the gateway did; None until it is at the gate."""
    abandoned: bool = False
    """Its service was killed as a whole before it had a verdict: nothing is left that could give one."""

    @property
    def captured_at(self) -> float:
        return self.captured_ns / 1e9

    @property
    def name(self) -> str:
        return f"{self.id.camera} {self.id.frame} of {self.id.session[:8]}"

    def told_in_time(self) -> str | None:
        """The one verdict that was heard of it before it reached the gate."""
        if self.heard_at is None or self.heard_at > self.expires_ns / 1e9:
            return None
        words = {word for _, word in self.told}
        return words.pop() if len(words) == 1 else None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, time.monotonic() seconds."""

    start: float
    end: float

    def __contains__(self, at: float) -> bool:
        return self.start <= at < self.end


@dataclass(slots=True)
class Unseen:
    """A bad part that passed a camera while that gave no frames. `at` is time.monotonic()."""

    camera: str
    at: float
    removed: bool | None = None


@dataclass(frozen=True, slots=True)
class Quiet:
    """How well parts were judged while nothing was broken."""

    parts: int
    judged: int
    right: int
    passed: int
    """Good ones of which a `pass` was told in time."""
    let_through: int
    """How many of these the gateway did not remove."""

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
    """Counts what was captured outside of the times when something was broken, by what a gateway could know
    of it in time: what stands in the ring and was not told is no judgement."""
    chosen = [part for part in parts if not any(part.captured_at in window for window in broken)]
    told = [(part, part.told_in_time()) for part in chosen]
    judged = [(part, word) for part, word in told if word in (Verdict.PASS.word, Verdict.REJECT.word)]
    right = sum((word == Verdict.REJECT.word) == part.bad for part, word in judged)
    passed = [part for part, word in judged if word == Verdict.PASS.word and not part.bad]
    let_through = sum(part.removed is False for part in passed)
    return Quiet(len(chosen), len(judged), right, len(passed), let_through)


def unseen_between(last: float, end: float, period: float) -> list[float]:
    """When parts passed a camera after `last`, one each period, for as long as they are not too close to
    `end`. All in seconds; none, where frames come as they usually do."""
    most = int((end - last) / period) + 1
    passed = (last + nth * period for nth in range(1, most))
    return [at for at in passed if at <= end - _APART * period]


def unseen_breaches(unseen: Iterable[Unseen]) -> list[str]:
    """What is wrong with parts that no frame was made of: nothing can have been said of them."""
    words = {False: "was let through", None: "never came to a decision of the gateway"}
    return [
        f"{part.camera}: a part that passed it unseen at {part.at:.2f} s {words[part.removed]}"
        for part in unseen
        if part.removed is not True
    ]


def breaches(
    parts: Iterable[Part], held_back: Sequence[Window] = (), deaf: Sequence[Window] = ()
) -> list[str]:
    """What is wrong with these parts, which have settled; nothing, if each had its one verdict in time and
    the gate acted. `held_back` are the times in which the broker, not the line, may have kept a message for
    too long; `deaf` those in which the witness may not have heard what the broker was given."""
    wrong = []
    for part in parts:
        wrong += [f"{part.name} {what}" for what in _wrong_with(part, held_back, deaf)]
    return wrong


def _wrong_with(part: Part, held_back: Sequence[Window], deaf: Sequence[Window]) -> Iterator[str]:
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
    if unheard := _unheard(part, deaf):
        yield f"is {part.stage.name} in the ring, and was not heard of on {', '.join(unheard)}"
    if part.removed is None:
        yield "never came to a decision of the gateway"
    if part.bad and part.removed is False:
        yield f"is bad and was let through: {part.verdict}, {sorted(part.told)}"
    if part.removed is False and part.verdict is not Verdict.PASS:
        yield f"was let through, and is {part.verdict and part.verdict.word} in the ring"


def _unheard(part: Part, deaf: Sequence[Window]) -> list[str]:
    """The topics on which a part should have been told, and was not, though the line says that it was sent.
    Every camera of the plant looks at every part, and what is no pass is for the gate. A reject that nobody
    heard is offered again: its verdict was sent long before that, at some moment since its capture."""
    if part.stage not in (Stage.SENT, Stage.ACKNOWLEDGED):
        return []
    if part.sent_ns is not None and any(
        window.start <= part.sent_ns / 1e9 and part.captured_at < window.end for window in deaf
    ):
        return []
    due = {"verdict"} if part.verdict is Verdict.PASS else {"verdict", "reject"}
    return sorted(due - part.told_on)


def recount(parts: Iterable[Part], tally: Tally, overruns: int) -> list[str]:
    """What is wrong with a ring's own counts, beside one's own of all the parts that it has had."""
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


def strays(early: Mapping[PartId, Sequence[Said]], now: float) -> list[str]:
    """Parts that were told of and are in no ring. `now` is time.monotonic()."""
    return [
        f"{id.camera} {id.frame} of {id.session[:8]} was told of, and is in no ring"
        for id, said in early.items()
        if said and min(one.at for one in said) < now - _STRAY_S
    ]


class Audit:
    """`with Audit(line, truths, periods_s) as audit:` keeps the books on a thread of its own.

    `periods_s` says by camera how often a part passes it, whether it gives a frame then or not.
    """

    def __init__(
        self, line: Line, truths: Mapping[str, Truth], periods_s: Mapping[str, float] | None = None
    ) -> None:
        self._line, self._truths, self._periods_s = line, truths, dict(periods_s or {})
        self.gateway: gateway.Gateway | None = None
        self._parts: dict[PartId, Part] = {}
        self._unseen: list[Unseen] = []
        self._at_barrier: dict[gateway.Part, Part | Unseen] = {}
        """Those that are on their way to the gate, by what the gateway calls them."""
        self._last_seen: dict[str, tuple[float, float]] = {}
        """By camera, of the last part that passed: when, time.monotonic(), and how long to the gate."""
        self._rings: dict[str, tuple[int, Ring]] = {}
        self._seen: dict[str, int] = dict.fromkeys(truths, 0)
        self._settled: dict[str, int] = dict.fromkeys(truths, 0)
        self._heard: dict[str, float] = {}
        self._early: dict[PartId, list[Said]] = {}
        """Said of parts whose frames were not looked at yet."""
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
        """The gateway's `act`."""
        with self._lock:
            self._at_barrier.pop(part).removed = removed

    def parts(self, window: Window | None = None) -> list[Part]:
        """All of them, or those captured in that time, as far as is known now."""
        with self._lock:
            return [part for part in self._parts.values() if window is None or part.captured_at in window]

    def unseen(self, window: Window | None = None) -> list[Unseen]:
        """The parts that passed a camera while it gave no frames: all of them, or those of that time."""
        with self._lock:
            return [part for part in self._unseen if window is None or part.at in window]

    def await_settled(self, window: Window, within_s: float = 5.0) -> list[Part]:
        """The parts captured in that time, once each has its last word and is past the gate, or once that
        has taken too long."""
        until = time.monotonic() + within_s
        while True:
            parts = self.parts(window)
            settled = (part.removed is not None and (part.abandoned or part.stage.is_final) for part in parts)
            if all(settled) or time.monotonic() > until:
                return parts
            time.sleep(0.05)

    def trouble(self) -> list[str]:
        """What went wrong with the books themselves, and where they differ from the rings' own counts."""
        ended = not self._thread.is_alive() and not self._closing
        with self._lock:
            for camera, (_, ring) in self._rings.items():
                tally = ring.tally()
                self._read(camera)
                self._recount(camera, ring, tally)
            wrong = [*self._trouble, *strays(self._early, time.monotonic())]
        return [*wrong, "the audit's thread has ended"] if ended else wrong

    def deaf(self) -> list[Window]:
        """When the witness may not have heard what the broker was given."""
        return [Window(start - _UNDELIVERED_S, end) for start, end in self._line.witness.deaf()]

    def last_look(self) -> None:
        """After the line was stopped: what it closed at the very end."""
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
                    # Only now: what its ring holds was read, and some of it may be that old.
                    self._pass_unseen(camera, now - _SHOWS_S)
                self._hear()
            time.sleep(0.01)

    def _open(self, camera: str) -> None:
        """Finds the camera's ring, and the next one after a new start of the service."""
        known = self._rings.get(camera)
        with contextlib.suppress(OSError, RingError):  # between a stop and a start there is none
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
        for one in recount(parts, tally, ring.overruns()):
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
        """Parts go on passing a camera that gives no frames; up to `end`, time.monotonic()."""
        if camera not in self._last_seen or camera not in self._periods_s:
            return
        last, reach = self._last_seen[camera]
        for at in unseen_between(last, end, self._periods_s[camera]):
            unseen = Unseen(camera, at)
            self._unseen.append(unseen)
            self._pass_barrier(camera, at, at + reach, unseen)
            self._last_seen[camera] = (at, reach)

    def _pass_barrier(self, camera: str, at: float, gate_at: float, part: Part | Unseen) -> None:
        """By the clock of this machine, whatever the line takes for the time."""
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
                        # Not the line's: anybody's garbage. Should it be the line's, the part goes unheard.
                        continue
                    id = PartId(payload["camera"], payload["session"], payload["frame"])
                    said = Said(payload["event_id"], payload["verdict"], topic.rpartition("/")[2], message.at)
                    if id in self._parts:
                        self._note(self._parts[id], said)
                    else:
                        self._early.setdefault(id, []).append(said)

    @staticmethod
    def _note(part: Part, said: Said) -> None:
        part.told.add((said.event_id, said.verdict))
        part.told_on.add(said.topic)
        if part.heard_at is None or said.at < part.heard_at:
            part.heard_at = said.at
        if part.last_heard_at is None or said.at > part.last_heard_at:
            part.last_heard_at = said.at
