"""The state of a process as the kernel reports it, and its command in the list of processes.

It knows nothing of workers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

_STOPPED = "T"
"""Stopped by a signal (proc_pid_stat(5)). A process that a debugger holds is in state `t`."""


def is_stopped(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether a signal such as SIGSTOP has stopped the process. A process that waits for the processor, for a
    disk or for a debugger is not stopped, and neither is one that does not exist."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return False
    # The second field is the program's name in brackets; the name may itself contain brackets and spaces.
    return stat.rpartition(b")")[2].split(maxsplit=1)[:1] == [_STOPPED.encode()]


def rename_process(command: Sequence[str]) -> None:
    """Shows this process with another command in the list of processes, as far as the old one has room."""
    # The kernel reads the command from the process's own memory; its place is in the fields 48 and 49
    # (proc_pid_stat(5)), which are 0 where the kernel keeps them back.
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = (int(field) for field in fields[45:47])
    shown = b"\0".join(word.encode() for word in command) + b"\0"
    if start:
        ctypes.memmove(start, shown.ljust(end - start, b"\0")[: end - start], end - start)
