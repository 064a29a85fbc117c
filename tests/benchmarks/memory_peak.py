"""How much memory a piece of work takes, by itself: in a process that does nothing else."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def peak_of(work: Callable[..., Any], *arguments: Any) -> float:
    """The most MB that a new process held in memory during `work(*arguments)`, its imports included.

    Both have to be picklable. What `work` raises is raised here.
    """
    # Spawned: what was forked would begin with all that this process holds.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_work, work, arguments).result()


def _work(work: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    work(*arguments)
    # Not the peak of getrusage, which remembers the process that this one was started from.
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) / 1024
