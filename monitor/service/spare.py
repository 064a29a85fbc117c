"""A spare process of a worker: it has imported everything and waits for its start data.

It knows nothing of the board or of restarts: the supervisor says when a spare is needed. Importing the
publisher takes half a second of processor time, and several seconds on a busy machine. Until a new publisher
has started, no part gets a verdict; a spare takes over at once.

The supervisor starts a spare as `python -m monitor.service.spare`. In the list of processes it has the
worker's name only once it is the worker.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys

from monitor.line_state.worker_process import run_worker
from monitor.system.process_state import is_stopped, rename_process

_MODULE = "SPARE_OF"
"""The environment variable with the worker's module."""
_PRIVATE_VARIABLES = ("LINE_MONITOR__", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")


def start_process(module: str, **more: str) -> subprocess.Popen[bytes]:
    """A worker's process, which waits for its start data on its standard input; `more` are variables of its
    environment. Raises OSError."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE_VARIABLES)
    }
    return subprocess.Popen(
        _command(module),
        stdin=subprocess.PIPE,
        env=environment | more,
        # Ctrl-C in a terminal must reach only the supervisor, which stops the workers in order.
        process_group=0,
    )


class Spare:
    """At most one spare process of the worker in that module."""

    def __init__(self, module: str, retry_ns: int = 3_000_000_000) -> None:
        self._module, self._retry_ns = module, retry_ns
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_ns = 0

    def step(self, now_ns: int) -> None:
        """Start a spare if there is none. After one was taken or has died, the next start waits, so that it
        takes no processor time from the worker that has just started."""
        if self._process is not None and self._process.poll() is not None:
            self._forget(now_ns)
        if self._process is None and now_ns >= self._start_at_ns:
            self._start_at_ns = now_ns + self._retry_ns
            try:
                self._process = start_process(f"{__package__}.spare", **{_MODULE: self._module})
            except OSError:
                # The worker itself is then started without a spare, and its failure is logged.
                return

    def take(self, now_ns: int) -> subprocess.Popen[bytes] | None:
        """The spare, if there is one that can take over."""
        spare = self._process
        self._forget(now_ns)
        if spare is None or spare.poll() is not None:
            return None
        if is_stopped(spare.pid):
            _end(spare)
            return None
        return spare

    def close(self) -> None:
        """End the spare."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _forget(self, now_ns: int) -> None:
        self._process, self._start_at_ns = None, now_ns + self._retry_ns


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    if process.stdin is not None:
        process.stdin.close()
    # A process that waits for a disk in the kernel ends when that wait ends; nobody needs to wait with it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def _command(module: str) -> list[str]:
    return [sys.executable, "-P", "-m", module]


def main() -> None:
    """Wait for the start data, and then be the worker. Without them the supervisor has ended."""
    module = os.environ.pop(_MODULE)
    worker = importlib.import_module(f"{module}.worker")
    if start_data := sys.stdin.buffer.read():
        rename_process(_command(module))
        run_worker(worker.work, start_data)


if __name__ == "__main__":
    main()
