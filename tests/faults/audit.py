"""The books of a whole line under fault: every part from its capture to the gate, and what is wrong with it.

It follows the rings as they fill, tells the gateway of each part as a light barrier would, and hears with a
witness of its own what was said. It must never influence the line: rings are mapped for reading alone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.frame import Frame
from monitor.ring import Ring, RingError, Stage
from monitor.verdict import Reason, Verdict
from tests.real.gateway import Gateway, PartId
from tests.real.line import Line

Truth = Callable[[Frame], bool]
"""Whether the part in that frame is bad."""

_ARRIVES_S = 0.15
"""How long a message may take through the broker and to a witness on a busy machine."""


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
    heard_at: float | None = None
    """When it was first heard of, time.monotonic()."""
    removed: bool | None = None
    """What the gateway did; None until it is at the gate."""
    abandoned: bool = False
    """Its service was killed as a whole before it had a verdict: nothing is left that could give one."""

    @property
    def captured_at(self) -> float:
        return self.captured_ns / 1e9


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, time.monotonic() seconds."""

    start: float
    end: float

    def __contains__(self, at: float) -> bool:
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True)
class Quiet:
    """How well parts were judged while nothing was broken."""

    parts: int
    judged: int
    right: int

    def breaches(self) -> list[str]:
        wrong = []
        if self.judged < 0.99 * self.parts:
            wrong.append(f"outside faults only {self.judged} of {self.parts} parts were judged")
        if self.right < 0.95 * self.judged:
            wrong.append(f"outside faults only {self.right} of {self.judged} verdicts were right")
        return wrong


def quiet(parts: Iterable[Part], broken: Sequence[Window]) -> Quiet:
    """Counts what was captured outside of the times when something was broken."""
    chosen = [part for part in parts if not any(part.captured_at in window for window in broken)]
    judged = [part for part in chosen if part.verdict in (Verdict.PASS, Verdict.REJECT)]
    right = sum((part.verdict is Verdict.REJECT) == part.bad for part in judged)
    return Quiet(len(chosen), len(judged), right)


def breaches(parts: Iterable[Part], held_back: Sequence[Window] = ()) -> list[str]:
    """What is wrong with these parts; nothing, if each has its one verdict in time. `held_back` are the times
    in which the broker, not the line, may have kept a message for too long."""
    wrong = []
    for part in parts:
        name = f"{part.id.camera} {part.id.frame} of {part.id.session[:8]}"
        if part.verdict is None and not part.abandoned:
            wrong.append(f"{name} has no verdict")
        if len(part.told) > 1:
            wrong.append(f"{name} has two verdicts: {sorted(part.told)}")
        if part.told and part.verdict is not None and {said for _, said in part.told} != {part.verdict.word}:
            wrong.append(f"{name} is {part.verdict.word} in the ring, but {sorted(part.told)} was told")
        if part.sent_ns is not None and part.sent_ns >= part.expires_ns:
            wrong.append(f"{name} was sent {(part.sent_ns - part.expires_ns) / 1e6:.0f} ms after its expiry")
        if part.heard_at is not None and part.heard_at > part.expires_ns / 1e9 + _ARRIVES_S:
            late = part.heard_at - part.expires_ns / 1e9
            if not any(part.heard_at in window for window in held_back):
                wrong.append(f"{name} was heard of {late:.2f} s after its expiry")
        if part.bad and part.removed is False:
            wrong.append(f"{name} is bad and was let through: {part.verdict}, {sorted(part.told)}")
    return wrong


class Audit:
    """`with Audit(line, gateway, truths) as audit:` keeps the books on a thread of its own."""

    def __init__(self, line: Line, truths: Mapping[str, Truth]) -> None:
        self._line, self._truths = line, truths
        self.gateway: Gateway | None = None
        self._parts: dict[PartId, Part] = {}
        self._rings: dict[str, tuple[int, Ring]] = {}
        self._seen: dict[str, int] = dict.fromkeys(truths, 0)
        self._settled: dict[str, int] = dict.fromkeys(truths, 0)
        self._heard: dict[str, float] = {}
        self._early: dict[PartId, list[tuple[tuple[str, str], float]]] = {}
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

    def at_gate(self, id: PartId, removed: bool) -> None:
        """The gateway's `act`."""
        with self._lock:
            self._parts[id].removed = removed

    def parts(self, window: Window | None = None) -> list[Part]:
        """All of them, or those captured in that time, as far as is known now."""
        with self._lock:
            return [part for part in self._parts.values() if window is None or part.captured_at in window]

    def await_settled(self, window: Window, within_s: float = 5.0) -> list[Part]:
        """The parts captured in that time, once each has its last word and is past the gate, or once that
        has taken too long."""
        until = time.monotonic() + within_s
        while True:
            parts = self.parts(window)
            open_ = [part for part in parts if part.removed is None or not part.stage.is_final]
            if all(part.abandoned for part in open_) or time.monotonic() > until:
                return parts
            time.sleep(0.05)

    def trouble(self) -> list[str]:
        """What went wrong with the books themselves."""
        if not self._thread.is_alive() and not self._closing:
            return [*self._trouble, "the audit's thread has ended"]
        return list(self._trouble)

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
                    self._read(camera)
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
        ring.close()

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
        for said, at in self._early.pop(id, []):
            self._note(part, said, at)
        if self.gateway is not None:
            number = self.gateway.part_passes(id.camera, id.session, frame.expires_ns / 1e9)
            if number != id.frame:
                self._trouble.append(f"{id.camera}: the gateway counted {number} for frame {id.frame}")

    def _take(self, part: Part, ring: Ring) -> None:
        closed = ring.closed(part.id.frame)
        if closed is not None:
            part.verdict, part.reason = closed.verdict, closed.reason
        scored = ring.scored(part.id.frame)
        if scored is not None:
            part.scored_ns = scored.scored_ns
        part.stage, part.sent_ns = ring.stage(part.id.frame), ring.sent_ns(part.id.frame)

    def _hear(self) -> None:
        for camera in self._truths:
            for topic in (f"{camera}/verdict", f"{camera}/reject"):
                for message in self._line.witness.heard(topic, since=self._heard.get(topic, 0.0)):
                    self._heard[topic] = message.at
                    payload = message.payload
                    id = PartId(payload["camera"], payload["session"], payload["frame"])
                    said = (payload["event_id"], payload["verdict"])
                    if id in self._parts:
                        self._note(self._parts[id], said, message.at)
                    else:
                        self._early.setdefault(id, []).append((said, message.at))

    @staticmethod
    def _note(part: Part, said: tuple[str, str], at: float) -> None:
        part.told.add(said)
        if part.heard_at is None or at < part.heard_at:
            part.heard_at = at
