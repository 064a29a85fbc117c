"""The state of a process as the kernel reports it.

It knows nothing of workers.
"""

from __future__ import annotations

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
