"""Starts a process of this program, and gives it its start data on its standard input.

It knows nothing of what the process does. No secret of the settings is in the environment of such a process.
"""

from __future__ import annotations

import os
import subprocess
import sys

_PRIVATE_VARIABLES = ("LINE_MONITOR__", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")


def command(module: str) -> list[str]:
    """The command line of a process that runs the module."""
    return [sys.executable, "-P", "-m", module]


def start_process(module: str, pass_fds: tuple[int, ...] = (), **more: str) -> subprocess.Popen[bytes]:
    """A process that waits for its start data on its standard input; `pass_fds` are the file descriptors that
    it inherits, and `more` are variables of its environment. Raises OSError."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE_VARIABLES)
    }
    return subprocess.Popen(
        command(module),
        stdin=subprocess.PIPE,
        env=environment | more,
        # Ctrl-C in a terminal must reach only the supervisor, which stops the workers in order.
        process_group=0,
        pass_fds=pass_fds,
    )


def give_start_data(process: subprocess.Popen[bytes], content: bytes) -> bool:
    """Writes the start data. Returns False where the process has ended before it read them."""
    if process.stdin is None:
        raise RuntimeError("a process without standard input")
    try:
        process.stdin.write(content)
        process.stdin.close()
    except BrokenPipeError:
        return False
    return True
