"""The processes of a program that runs on a Ray of its own: their memory and processor seconds, by kind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_EVERY_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Kind(StrEnum):
    DRIVER = "driver"
    SCORER = "scorer"
    RAY = "ray"
    """Ray's own processes, and its spare workers."""


@dataclass(frozen=True)
class ProcessSample:
    """One process at one moment."""

    at_s: float
    pid: int
    kind: Kind
    own_mib: float
    """Its resident memory without files and shared memory."""
    processor_s: float


@contextmanager
def follow_processes(pid: int) -> Iterator[list[ProcessSample]]:
    """Samples a process and all that descend from it every second."""
    samples: list[ProcessSample] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_EVERY_S):
            samples.extend(sample_processes(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def sample_processes(root: int) -> Iterator[ProcessSample]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(place.name))
        spent[int(place.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    now, waiting = time.monotonic(), [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        if pid in spent:
            kind = Kind.DRIVER if pid == root else _kind_of(pid)
            yield ProcessSample(now, pid, kind, _own_mib(pid), spent[pid])


def _kind_of(pid: int) -> Kind:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return Kind.RAY
    return Kind.SCORER if command.startswith(b"ray::MapWorker") else Kind.RAY


def _own_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def compare_peaks(samples: Sequence[ProcessSample]) -> dict[Kind, tuple[float, float]]:
    """The largest process of each kind, in the first and in the last third of the samples."""
    begin, end = samples[0].at_s, samples[-1].at_s
    third = (end - begin) / 3
    return {
        kind: (
            max(
                (one.own_mib for one in samples if one.kind is kind and one.at_s <= begin + third), default=0
            ),
            max((one.own_mib for one in samples if one.kind is kind and one.at_s >= end - third), default=0),
        )
        for kind in Kind
    }


def sum_processor_seconds(samples: Sequence[ProcessSample]) -> dict[Kind, float]:
    """What the processes of each kind have spent from the first sample to the last."""
    first, last = samples[0].at_s, {one.pid: one for one in samples}
    before = {one.pid: one.processor_s for one in samples if one.at_s == first}
    spent = dict.fromkeys(Kind, 0.0)
    for one in last.values():
        spent[one.kind] += one.processor_s - before.get(one.pid, 0.0)
    return spent
