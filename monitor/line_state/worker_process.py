"""The common part of every worker process: read the start data, report to the board, stop on a signal.

It knows nothing of what the workers do. The supervisor starts a worker as `python -m monitor.<worker>` and
writes its start data to the worker's standard input. A worker dies with its supervisor, stops on SIGTERM, and
writes to the board until when it counts as alive.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from monitor.line_state.board import Board, Field, WorkerState
from monitor.settings import Settings
from monitor.system import logs

CAPTURE, SCORING, PUBLISH, SNAPSHOTS, REVIEW = "capture", "scoring", "publish", "snapshots", "review"
SUPERVISOR = "supervisor"
_PR_SET_PDEATHSIG = 1


def worker_names(settings: Settings) -> tuple[str, ...]:
    """The names of all workers, in the order of the board. A capture worker's name is `capture-<camera>`."""
    return (
        SUPERVISOR,
        SCORING,
        PUBLISH,
        SNAPSHOTS,
        *(capture_name(camera.name) for camera in settings.camera),
        REVIEW,
    )


def capture_name(camera: str) -> str:
    return f"{CAPTURE}-{camera}"


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """The start data of a worker, as JSON on its standard input.

    The keys must stay: after an update of the files, the old supervisor starts workers of the new version.
    """

    name: str
    folder: str
    """The runtime directory."""
    session: str
    supervisor: int
    """The supervisor's process id."""
    settings: dict[str, Any]

    def to_json(self) -> bytes:
        """The JSON text."""
        return json.dumps(asdict(self)).encode()


def settings_for(settings: Settings, worker: str) -> dict[str, Any]:
    """The settings as JSON values. Only the publisher gets the broker's password, and only the review worker
    the hash of the page's password."""
    tree: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    tree["mqtt"].pop("password", None)
    tree["review"].pop("password_hash", None)
    if worker == REVIEW and settings.review.password_hash is not None:
        tree["review"]["password_hash"] = settings.review.password_hash.get_secret_value()
    if worker == PUBLISH and settings.mqtt.password is not None:
        tree["mqtt"]["password"] = settings.mqtt.password.get_secret_value()
    return tree


class Worker:
    """One worker process: its settings, the board, and whether it is to stop."""

    def __init__(self, start: WorkerStart, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.name = start.name
        self.folder = Path(start.folder)
        self.session = uuid.UUID(start.session)
        self.settings = Settings.model_validate(start.settings)
        self.board = Board(self.folder / "board", worker_names(self.settings))
        self.log = logging.getLogger(start.name)
        self.stopping = False
        self._clock = clock
        self._log_level = 0
        """The level on the board that was taken over; 0 before the supervisor has written one."""
        self.board.write(self.name, Field.PID, os.getpid())
        self.board.write(self.name, Field.SINCE_NS, clock())
        self.report_alive(60.0)
        self.board.write(self.name, Field.STATE, WorkerState.STARTING)

    def report_alive(self, within_s: float) -> None:
        """Reports that this worker is alive. If it does not report again within `within_s` seconds, the
        supervisor kills it."""
        self.board.write(self.name, Field.ALIVE_UNTIL_NS, self._clock() + int(within_s * 1e9))
        if (level := self.board.read(SUPERVISOR, Field.LOG_LEVEL)) != self._log_level:
            self._log_level = level
            logging.getLogger().setLevel(level)

    def mark_running(self) -> None:
        """Reports that the worker has started and does its work."""
        self.board.write(self.name, Field.STATE, WorkerState.RUNNING)
        self.board.write(self.name, Field.EVER_RAN, 1)

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Handles a signal to stop."""
        self.stopping = True

    def sleep(self, seconds: float) -> None:
        """Waits for `seconds`, or until the worker is to stop."""
        until = self._clock() + int(seconds * 1e9)
        while not self.stopping and (left := until - self._clock()) > 0:
            self.report_alive(5.0)
            time.sleep(min(0.05, left / 1e9))


def ignore_signals_of_the_line() -> None:
    """Ignores two signals that may reach all processes, since only the supervisor acts on them.

    At SIGINT, as from Ctrl-C in a terminal, it stops the workers in their order. At SIGHUP, as from
    `systemctl kill -s HUP` or a program that rotates logs, it reads the settings again.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def run_worker(work: Callable[[Worker], None], start_data: bytes | None = None) -> None:
    """Calls `work`, which returns once the worker is to stop. The start data are read from standard input
    unless they are given."""
    ignore_signals_of_the_line()
    start = WorkerStart(**json.loads(sys.stdin.buffer.read() if start_data is None else start_data))
    die_with(start.supervisor)
    logs.configure()
    worker = Worker(start)
    signal.signal(signal.SIGTERM, worker.stop)
    work(worker)
    worker.board.write(worker.name, Field.STATE, WorkerState.STOPPED)


def die_with(parent: int) -> None:
    """Sets the kernel to kill this process when the thread that started it ends (prctl(2)). Ends this process
    where `parent`, that thread's process, has gone already."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
