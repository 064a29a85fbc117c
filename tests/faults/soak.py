"""Runs a whole plant for an hour with a fault every two minutes: `python -m tests.faults.soak --minutes 60`.

The seed determines the faults. It follows every part to the gate, measures memory, file descriptors, threads
and processes, and looks for leftovers at the end. It writes a report as JSON; the exit code is 1 if a promise
was broken. After the first sixth of the time no fault ends the workers in `--spare`, so that their memory can
be judged.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monitor.line_state.worker_process import REVIEW, worker_names
from tests.faults.audit import Window, breaches, quiet, unseen_breaches
from tests.faults.catalogue import FAULTS
from tests.faults.plant import CAMERAS, Plant, Unavailable
from tests.faults.scenario import Fault, Outcome, run_fault

_SAMPLE_S = 10.0
_MOST_GROWTH = 1.02


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one time; `minute` counts from the start."""

    minute: float
    pid: int
    anonymous_kb: int
    """Private memory only: the rings are shared and have a fixed size."""
    descriptors: int
    sockets: int
    threads: int


def sample(pid: int, minute: float) -> Sample | None:
    """The sample of a process; None if the process has ended."""
    place = Path(f"/proc/{pid}")
    try:
        rows = dict(row.split(":", 1) for row in (place / "status").read_text().splitlines() if ":" in row)
        links = [str(link.readlink()) for link in (place / "fd").iterdir()]
        return Sample(
            minute,
            pid,
            int(rows["RssAnon"].split()[0]),
            len(links),
            sum(link.startswith("socket:") for link in links),
            int(rows["Threads"]),
        )
    except (OSError, KeyError):
        return None


class Sampler:
    """`with Sampler(plant) as sampler:` samples every worker at intervals, by name."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        settings = plant.line.settings
        self._workers = [name for name in worker_names(settings) if name != REVIEW or settings.review.port]
        self._start = time.monotonic()
        self.samples: dict[str, list[Sample]] = {worker: [] for worker in self._workers}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closing.wait(_SAMPLE_S):
            minute = (time.monotonic() - self._start) / 60
            for worker in self._workers:
                taken = sample(self._plant.line.pid(worker), minute)
                if taken is not None:
                    self.samples[worker].append(taken)


def growth(samples: Sequence[Sample], minutes: float) -> tuple[float, float] | None:
    """Mean memory in kB in the second and in the last sixth of the time; None for a process that did not run
    all the time."""
    early = [one for one in samples if minutes / 6 <= one.minute < minutes / 3]
    late = [one for one in samples if one.minute >= minutes * 5 / 6]
    if not early or not late or len({one.pid for one in samples if one.minute >= minutes / 6}) != 1:
        return None
    return (
        statistics.mean(one.anonymous_kb for one in early),
        statistics.mean(one.anonymous_kb for one in late),
    )


def leaks(samples: Mapping[str, Sequence[Sample]], minutes: float) -> list[str]:
    """Workers that hold more at the end than at the beginning, even if their process was replaced."""
    wrong = []
    for worker, taken in samples.items():
        first = [one for one in taken if one.minute < minutes / 6]
        last = [one for one in taken if one.minute >= minutes - max(1.0, minutes / 20)]
        if not first or not last:
            wrong.append(f"{worker}: not there at the beginning or at the end")
            continue
        for what in ("descriptors", "sockets", "threads"):
            before = max(getattr(one, what) for one in first)
            # A new connection takes some for a moment, so the smallest value counts.
            after = min(getattr(one, what) for one in last)
            if after > before:
                wrong.append(f"{worker}: {after} {what} at the end, {before} at the beginning")
    return wrong


def left_behind(plant: Plant, pids: set[int]) -> list[str]:
    """Processes, sockets, rings and temporary files that still exist after a normal stop."""
    wrong = [f"process {pid} is left" for pid in sorted(pids) if _is_ours(pid)]
    if plant.line.folder.exists():
        wrong.append(
            f"{plant.line.folder} is left: {sorted(file.name for file in plant.line.folder.iterdir())}"
        )
    kept = {".jpg", ".png", ".json"}
    wrong += [
        f"{file.name} is left among the snapshots"
        for file in (plant.data / "snapshots").rglob("*")
        if file.is_file() and file.suffix not in kept
    ]
    return wrong


def _is_ours(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"monitor." in command


def draw(chance: random.Random, spared: Sequence[str], early: bool, last: Sequence[str]) -> Fault:
    """The next fault: none that ends the service, and none of the latest ones."""
    fit = [
        fault
        for fault in FAULTS
        if not fault.ends_service and fault.name not in last and (early or fault.ends not in spared)
    ]
    return chance.choice(fit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=120.0, help="seconds from fault to fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spare", nargs="*", default=["scoring", "publish", "snapshots"], metavar="WORKER")
    parser.add_argument("--report", type=Path, default=Path("soak.json"))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    outcomes: list[Outcome] = []
    untried: list[str] = []
    with tempfile.TemporaryDirectory() as name, Plant(Path(name)) as plant:
        with Sampler(plant) as sampler:
            start = time.monotonic()
            end, nth = start + 60 * options.minutes, 1
            while (at := start + nth * options.every) < end - options.every / 2:
                time.sleep(max(0.0, at - 3 + chance.uniform(-5, 5) - time.monotonic()))
                early = at - start < 10 * options.minutes
                last = [outcome.fault for outcome in outcomes[-8:]]
                fault = draw(chance, options.spare, early, [*last, *untried])
                try:
                    outcomes.append(run_fault(plant, fault, after_s=3.0))
                except Unavailable as why:
                    untried.append(fault.name)
                    print(f"{fault.name}: not tried: {why}", flush=True)
                    continue
                _say(outcomes[-1], (time.monotonic() - start) / 60)
                nth = max(nth, int((time.monotonic() - start) / options.every)) + 1
                plant.line.witness.forget(before=time.monotonic() - 60)
            time.sleep(max(0.0, end - time.monotonic()))
        pids = {one.pid for taken in sampler.samples.values() for one in taken}
        report = _report(plant, sampler, outcomes, options.minutes) | {"untried": untried}
        plant.line.stop()
        time.sleep(2)
        plant.audit.read_final_frames()
        parts = plant.audit.parts()
        unseen = plant.audit.unseen(Window(0.0, time.monotonic() - 2.0))
        report["unseen"] = len(unseen)
        report["wrong"] += plant.audit.trouble() + breaches(parts, plant.held_back, plant.audit.deaf())
        report["wrong"] += unseen_breaches(unseen)
        report["wrong"] += left_behind(plant, pids)
        log = plant.line.log.read_text(errors="replace")
        if "Traceback" in log:
            report["wrong"].append("a traceback in the log")
        options.report.with_suffix(".log").write_text(log)
    options.report.write_text(json.dumps(report, indent=1))
    for key in ("parts", "unseen", "quiet", "gateway", "memory_kb"):
        print(f"{key}: {json.dumps(report[key])}")
    for one in report["wrong"][:50]:
        print(f"WRONG: {one}")
    for name in untried:
        print(f"not tried, for want of what it takes on this machine: {name}")
    print(f"{len(outcomes)} faults, {len(report['wrong'])} breaches; {options.report}")
    return int(bool(report["wrong"]))


def _say(outcome: Outcome, minute: float) -> None:
    lost = ", ".join(f"{count} {reason}" for reason, count in outcome.uninspected.items()) or "none"
    print(f"{minute:5.1f} min  {outcome.fault}: {outcome.did}; uninspected: {lost}", flush=True)
    for one in outcome.wrong[:10]:
        print(f"           WRONG: {one}", flush=True)


def _report(plant: Plant, sampler: Sampler, outcomes: Sequence[Outcome], minutes: float) -> dict[str, Any]:
    """Differences that are found while the line still runs."""
    parts = plant.audit.parts()
    settled = [part for part in parts if part.removed is not None]
    calm = quiet(settled, [outcome.broken for outcome in outcomes])
    wrong = [f"{outcome.fault}: {one}" for outcome in outcomes for one in outcome.wrong]
    wrong += calm.breaches() + leaks(sampler.samples, minutes)
    if not plant.is_whole():
        wrong.append(f"not whole at the end: {plant.line.witness.status()}")
    counts = plant.gateway.counts()
    if counts.passed + counts.removed < len(settled):
        wrong.append(f"the gateway counted {counts}, there were {len(settled)} parts")
    memory: dict[str, Any] = {}
    for worker, taken in sampler.samples.items():
        grown = growth(taken, minutes)
        memory[worker] = "restarted" if grown is None else [round(value) for value in grown]
        if grown is not None and grown[1] > _MOST_GROWTH * grown[0]:
            wrong.append(f"{worker}: memory grew from {grown[0]:.0f} to {grown[1]:.0f} kB")
    return {
        "minutes": minutes,
        "parts": {name: sum(part.id.camera == name for part in parts) for name in CAMERAS},
        "quiet": asdict(calm),
        "gateway": asdict(counts),
        "memory_kb": memory,
        "faults": [asdict(outcome) for outcome in outcomes],
        "samples": {worker: [asdict(one) for one in taken] for worker, taken in sampler.samples.items()},
        "wrong": wrong,
    }


if __name__ == "__main__":
    sys.exit(main())
