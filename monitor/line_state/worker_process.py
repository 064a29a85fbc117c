"""What every worker process does before and between its own work: take its post, keep its promise, stop.

The supervisor starts a worker as `python -m monitor.<worker>` and writes its post to the worker's standard
input. A worker dies with its supervisor, stops on SIGTERM, and says on the board by when it will be heard
of again.
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

from monitor.line_state.board import Board, Word, WorkerState
from monitor.settings import Settings
from monitor.system import logs

CAPTURE, SCORING, PUBLISH, SNAPSHOTS, REVIEW = "capture", "scoring", "publish", "snapshots", "review"
SUPERVISOR = "supervisor"
_PR_SET_PDEATHSIG = 1


def roll(settings: Settings) -> tuple[str, ...]:
    """Every worker's name, in the board's order. Capture workers are called `capture-<camera>`."""
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
class Post:
    """A worker's place on the line, as it goes to the worker's standard input."""

    name: str
    folder: str
    session: str
    supervisor: int
    settings: dict[str, Any]

    def wire(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def settings_for(settings: Settings, worker: str) -> dict[str, Any]:
    """The settings as JSON values, with the broker's password for the publisher alone, and the hash of the
    page's password for the review worker alone."""
    tree: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    tree["mqtt"].pop("password", None)
    tree["review"].pop("password_hash", None)
    if worker == REVIEW and settings.review.password_hash is not None:
        tree["review"]["password_hash"] = settings.review.password_hash.get_secret_value()
    if worker == PUBLISH and settings.mqtt.password is not None:
        tree["mqtt"]["password"] = settings.mqtt.password.get_secret_value()
    return tree


class Worker:
    """A worker at its post: its settings, the board, and whether it should stop."""

    def __init__(self, post: Post, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.name = post.name
        self.folder = Path(post.folder)
        self.session = uuid.UUID(post.session)
        self.settings = Settings.model_validate(post.settings)
        self.board = Board(self.folder / "board", roll(self.settings))
        self.log = logging.getLogger(post.name)
        self.stopping = False
        self._clock = clock
        self.board.write(self.name, Word.PID, os.getpid())
        self.board.write(self.name, Word.SINCE_NS, clock())
        self.promise(60.0)
        self.board.write(self.name, Word.STATE, WorkerState.STARTING)

    def promise(self, within_s: float) -> None:
        """Says that this worker will promise again within that time; else the supervisor ends it."""
        self.board.write(self.name, Word.PROMISE_NS, self._clock() + int(within_s * 1e9))

    def running(self) -> None:
        self.board.write(self.name, Word.STATE, WorkerState.RUNNING)
        self.board.write(self.name, Word.EVER_RAN, 1)

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        self.stopping = True

    def sleep(self, seconds: float) -> None:
        """Waits, but not once the worker should stop."""
        until = self._clock() + int(seconds * 1e9)
        while not self.stopping and (left := until - self._clock()) > 0:
            self.promise(5.0)
            time.sleep(min(0.05, left / 1e9))


def main(work: Callable[[Worker], None]) -> None:
    """Takes up the post from standard input and works until told to stop."""
    post = Post(**json.loads(sys.stdin.buffer.read()))
    _die_with(post.supervisor)
    logs.configure()
    worker = Worker(post)
    signal.signal(signal.SIGTERM, worker.stop)
    # Ctrl-C in a terminal reaches the whole group; the supervisor alone decides the order of stopping.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work(worker)
    worker.board.write(worker.name, Word.STATE, WorkerState.STOPPED)


def _die_with(supervisor: int) -> None:
    """Asks the kernel to kill this process when its supervisor dies (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != supervisor:
        sys.exit("the supervisor is gone")
