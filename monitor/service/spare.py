"""A spare process of a worker: it has imported everything and waits for its start data.

It knows nothing of the board or of restarts: the supervisor says when a spare is needed. Importing the
publisher takes half a second of processor time, and several seconds on a busy machine. Until a new publisher
has started, no part gets a verdict; a spare takes over at once. A spare reports the end of its imports by a
byte on a pipe. One that has not reported it for some seconds is not handed out: an import may hang.

The supervisor starts a spare as `python -m monitor.service.spare`. In the list of processes it has the
worker's name only once it is the worker.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
import sys

from monitor.line_state.worker_process import ignore_signals_of_the_line, run_worker
from monitor.service.child_process import command, start_process
from monitor.system.process_state import is_stopped, rename_process

_MODULE = "SPARE_OF"
"""The environment variable with the worker's module."""
_REPORT_TO = "SPARE_REPORTS_TO"
"""The environment variable with the file descriptor of the pipe."""
_YOUNG_NS = 5_000_000_000
"""A spare that was started within this time may take over before the end of its imports: a new process would
end them later."""
_LONGEST_IMPORT_NS = 120_000_000_000
"""A spare that has not reported the end of its imports by then is ended."""
_NEXT_NS = 1_500_000_000
"""The wait before the next spare after one was taken. It is short, since the next stop may follow soon."""
_LONGEST_RETRY_NS = 60_000_000_000
"""The longest wait before the next spare. A spare that has lived this long before it ended is no part of a
crash loop."""


class Spare:
    """At most one spare process of the worker in that module."""

    def __init__(self, module: str, log: logging.Logger, retry_ns: int = 3_000_000_000) -> None:
        self._module, self._log, self._retry_ns = module, log, retry_ns
        self._process: subprocess.Popen[bytes] | None = None
        self._report: int | None = None
        """The reading end of the pipe, until the spare has reported the end of its imports."""
        self._started_ns = 0
        self._start_at_ns = 0
        self._failures = 0
        """The number of spares that failed one soon after the other."""

    def step(self, now_ns: int) -> None:
        """Start a spare if there is none. After one was taken or has failed, the next start waits, so that it
        takes no processor time from the worker that has just started."""
        process = self._process
        if process is not None and (code := process.poll()) is not None:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            self._record_failure(now_ns, f"ended {how}")
        elif (
            process is not None and now_ns - self._started_ns > _LONGEST_IMPORT_NS and not self.has_imported()
        ):
            self._record_failure(now_ns, f"was not ready after {_LONGEST_IMPORT_NS // 10**9} s and is ended")
        if self._process is None and now_ns >= self._start_at_ns:
            self._start(now_ns)

    def is_ready(self, now_ns: int) -> bool:
        """Whether there is a spare that can take over sooner than a new process."""
        if self._process is None or self._process.poll() is not None or is_stopped(self._process.pid):
            return False
        return self.has_imported() or now_ns - self._started_ns <= _YOUNG_NS

    def take(self, now_ns: int) -> subprocess.Popen[bytes] | None:
        """The spare, if one is ready. Another one is ended."""
        spare = self._process if self.is_ready(now_ns) else None
        if spare is None:
            self.close()
        else:
            self._failures = 0 if self.has_imported() else self._failures
            self._process = None
            self._close_report()
        self._start_at_ns = max(self._start_at_ns, now_ns + _NEXT_NS)
        return spare

    def close(self) -> None:
        """End the spare."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        self._close_report()

    def _start(self, now_ns: int) -> None:
        self._started_ns, self._start_at_ns = now_ns, now_ns + self._retry_ns
        try:
            self._report, theirs = os.pipe()
            os.set_blocking(self._report, False)
            try:
                more = {_MODULE: self._module, _REPORT_TO: str(theirs)}
                self._process = start_process(f"{__package__}.spare", (theirs,), **more)
            finally:
                os.close(theirs)
        except OSError as error:
            self._record_failure(now_ns, f"can't be started: {error}")

    def has_imported(self) -> bool:
        """Whether the spare has reported the end of its imports."""
        if self._process is None:
            return False
        if self._report is None:
            return True
        try:
            is_done = bool(os.read(self._report, 1))
        except BlockingIOError:
            return False
        if is_done:
            self._close_report()
        return is_done

    def _record_failure(self, now_ns: int, how: str) -> None:
        """Ends and forgets the spare. Each further failure doubles the wait before the next spare."""
        was_ready = self.has_imported()
        self.close()
        has_lasted = was_ready and now_ns - self._started_ns >= _LONGEST_RETRY_NS
        self._failures = 1 if has_lasted else self._failures + 1
        wait_ns = min(_LONGEST_RETRY_NS, self._retry_ns << min(self._failures - 1, 10))
        self._start_at_ns = now_ns + wait_ns
        if self._failures == 1:
            self._log.error(
                "the spare process of %s %s; until there is one, a new worker takes longer to start; "
                "the next tries follow after %d s, at last every %d s",
                self._module,
                how,
                wait_ns // 10**9,
                _LONGEST_RETRY_NS // 10**9,
            )

    def _close_report(self) -> None:
        if self._report is not None:
            os.close(self._report)
            self._report = None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    if process.stdin is not None:
        process.stdin.close()
    # A process that waits for a disk in the kernel ends when that wait ends; nobody needs to wait with it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def main() -> None:
    """Wait for the start data, and then be the worker. Without them the supervisor has ended."""
    ignore_signals_of_the_line()
    module = os.environ.pop(_MODULE)
    report_to = int(os.environ.pop(_REPORT_TO))
    worker = importlib.import_module(f"{module}.worker")
    # Nobody reads the pipe where the spare was taken before, or where the supervisor has ended.
    with contextlib.suppress(BrokenPipeError):
        os.write(report_to, b"1")
    os.close(report_to)
    if start_data := sys.stdin.buffer.read():
        rename_process(command(module))
        run_worker(worker.work, start_data)


if __name__ == "__main__":
    main()
