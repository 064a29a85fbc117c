"""Runs one fault with a normal time before and after it, and evaluates the audit of that time.

It breaks a plant in one way, measures when the line reports it and when the line works again, sends an
operator's reset if needed, and checks every part. It must never help the line in any other way.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from monitor.line_state.ring import Stage
from monitor.verdict import Verdict
from tests.faults.audit import Part, Quiet, Window, breaches, quiet, unseen_breaches
from tests.faults.plant import Plant

SETTLED_S = 10.0
"""Time after the end of a fault from which on all parts must be judged as usual."""
_AFTERWORDS_S = 1.0
"""Longest time after a fault in which the line may still report it."""
_ENDED = re.compile(r"worker (\S+) ended ")


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to break the plant: it is broken inside the context."""

    name: str
    way: Callable[[Plant], AbstractContextManager[None]]
    lasts_s: float = 0.0
    whole_within_s: float = 10.0
    """Longest time from its end until the line works again."""
    holds_back: bool = False
    """Whether messages may reach the gateway late for a reason outside the line."""
    ends: str = ""
    """The worker that the fault ends."""
    ends_service: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a fault. Times are in seconds; `wrong` is empty if all promises were kept."""

    fault: str
    broken: Window
    """From the start of the fault until parts must be judged again."""
    did: str
    noticed_s: float | None
    recovered_s: float | None
    parts: int
    unseen: int
    """Number of parts that passed a camera while it gave no frames."""
    uninspected: dict[str, int]
    abandoned: int
    quiet: Quiet
    wrong: list[str] = field(default_factory=list)


def moment(seed: int, fault: Fault) -> float:
    """The normal time before the fault in seconds. It depends only on the seed and the fault, so that the
    fault meets parts anywhere between camera and gate."""
    return random.Random(f"{seed} {fault.name}").uniform(3.0, 5.0)


def time_of_report(noticed_s: float | None, lasted_s: float, recovered_s: float | None) -> float | None:
    """The time at which the fault was reported, or None if the line had worked again long before and so
    reported something else. All times are in seconds; `recovered_s` counts from the fault's end."""
    if noticed_s is None or recovered_s is None or noticed_s <= lasted_s + recovered_s + _AFTERWORDS_S:
        return noticed_s
    return None


def run_fault(plant: Plant, fault: Fault, before_s: float = 3.0, after_s: float = 5.0) -> Outcome:
    """Break the plant, repair it, and wait for the normal time after it. Raises Unavailable if the machine
    does not permit the fault."""
    start = time.monotonic()
    time.sleep(before_s)
    usual, log_start, at = _words(plant.line.witness.status()), plant.log_size(), time.monotonic()
    with _ReportWatch(plant, usual, at) as attention:
        with fault.way(plant):
            time.sleep(max(0.0, at + fault.lasts_s - time.monotonic()))
        ended = time.monotonic()
        recovered, wrong = _recover(plant, fault, ended)
    calm_from = ended + max(SETTLED_S, 0.0 if recovered is None else recovered)
    time.sleep(max(0.0, calm_from + after_s - time.monotonic()))
    end = time.monotonic() - 2.0
    if fault.holds_back:
        plant.held_back.append(Window(at, ended + SETTLED_S))
    parts = plant.audit.await_settled(Window(start, end))
    unseen = plant.audit.unseen(Window(start, end))
    calm = quiet(parts, [Window(at - 1.0, calm_from)])
    wrong += [*plant.audit.trouble(), *breaches(parts, plant.held_back, plant.audit.deaf())]
    wrong += [*unseen_breaches(unseen), *calm.breaches()]
    return Outcome(
        fault=fault.name,
        broken=Window(at - 1.0, calm_from),
        did=_did(plant, usual, at, log_start, parts),
        noticed_s=time_of_report(attention.noticed_s, ended - at, recovered),
        recovered_s=recovered,
        parts=len(parts),
        unseen=len(unseen),
        uninspected=_uninspected(parts),
        abandoned=sum(part.abandoned for part in parts),
        quiet=calm,
        wrong=wrong,
    )


def _words(status: dict[str, Any]) -> str:
    """A status in plain words."""
    if not status:
        return "silent"
    if not status["ready"]:
        words = f"not ready: {status['reason']}"
    elif status["reason"] in (None, "drift"):  # the plant's bad parts raise the drift warning, which is right
        words = "inspecting"
    else:
        words = f"degraded: {status['reason']}"
    if status.get("journal") not in (None, "ok"):
        words += "; journal can't be written"
    return str(words)


class _ReportWatch:
    """Watches in its own thread for the line's first report of the fault."""

    def __init__(self, plant: Plant, usual: str, at: float) -> None:
        self._plant, self._usual, self._at = plant, usual, at
        self._log_start = plant.log_size()
        self.noticed_s: float | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _ReportWatch:
        self._thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._closing = True
        self._thread.join()

    def _watch(self) -> None:
        while self.noticed_s is None and not self._closing:
            told = self._plant.line.witness.heard("status", since=self._at)
            other = any(_words(message.payload) != self._usual for message in told)
            if other or self._plant.log_size() > self._log_start:
                self.noticed_s = time.monotonic() - self._at
            time.sleep(0.01)


def _recover(plant: Plant, fault: Fault, ended: float) -> tuple[float | None, list[str]]:
    """Seconds from the fault's end until the line works and stays so; an operator resets a latch."""
    reset_at = broken_at = 0.0
    while (now := time.monotonic()) < ended + max(SETTLED_S, fault.whole_within_s):
        if plant.line.process.poll() is not None:
            return None, ["the service ended"]
        if not plant.is_whole():
            broken_at = now
            if now > reset_at + 1.0 and plant.reset_if_latched():
                reset_at = now
        elif now > ended + SETTLED_S:
            break
        time.sleep(0.02)
    took = max(0.0, broken_at - ended)
    if took < fault.whole_within_s:
        return took, []
    return took, [f"not whole {fault.whole_within_s:g} s after its end: {plant.line.witness.status()}"]


def _uninspected(parts: Sequence[Part]) -> dict[str, int]:
    lost = (part.reason.word or "" for part in parts if part.verdict is Verdict.UNINSPECTED)
    return dict(Counter(lost).most_common())


def _did(plant: Plant, usual: str, at: float, log_start: int, parts: Sequence[Part]) -> str:
    """What the line did, from its status and log."""
    said: list[str] = []
    for message in plant.line.witness.heard("status", since=at):
        words = _words(message.payload)
        if words not in (usual, *said):
            said.append(words)
    for row in plant.log_rows(log_start):
        if found := _ENDED.search(row):
            words = f"{found[1]} restarted"
            if words not in said:
                said.append(words)
    missed = sum(part.stage in (Stage.EXPIRED, Stage.UNACKNOWLEDGED) for part in parts)
    if missed:
        said.append(f"{missed} verdicts expired or unacknowledged")
    return "; ".join(said) or "went on"
