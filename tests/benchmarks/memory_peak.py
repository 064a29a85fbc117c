"""Measures the memory of a function in a process that does nothing else."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def peak_of(work: Callable[..., Any], *arguments: Any) -> float:
    """The largest memory in MB of a new process during `work(*arguments)`, including its imports.

    Both must be picklable. An exception of `work` is raised here.
    """
    # The process is spawned, because a forked one would start with all memory of this process.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_work, work, arguments).result()


def _work(work: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    work(*arguments)
    # The peak of getrusage is not usable, because it includes the parent process.
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) / 1024
