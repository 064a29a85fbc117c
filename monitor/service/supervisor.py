"""The supervisor: starts the line's workers, watches them, restarts them, and stops them in order.

It owns the lock on the data folder and the runtime directory, and nothing on the way of a frame: while it
is busy or stopped, the workers go on. It must never open a camera, a recipe or a broker.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from monitor import paths
from monitor.line_state.board import Board, Word, WorkerState
from monitor.line_state.latch import Latch
from monitor.line_state.ring import Ring, RingError
from monitor.line_state.worker_process import (
    CAPTURE,
    PUBLISH,
    REVIEW,
    SCORING,
    SNAPSHOTS,
    SUPERVISOR,
    Post,
    capture_name,
    roll,
    settings_for,
)
from monitor.service import status_line
from monitor.service.prometheus import Metrics
from monitor.service.recovery import salvage
from monitor.settings import Settings
from monitor.system.systemd import Notifier

_TICK_S = 0.05
_BROKER_PATIENCE_NS = 3_000_000_000
_PRIVATE_VARIABLES = ("LINE_MONITOR__", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How soon a dead worker is started again. All of it is here."""

    first_s: float = 0.0
    then_s: float = 0.5
    most_deaths: int = 5
    window_s: float = 60.0
    failing_s: float = 20.0
    longest_killed_s: float = 5.0
    """The longest wait for a worker that others keep killing: the kernel, out of memory, at every start. The
    line is degraded by it after `most_deaths` too, but nothing is gained by a longer wait."""
    grace_s: float = 3.0
    """How long after its broken promise a worker is killed; it counts as lost at once."""
    starting_s: float = 120.0
    """A worker that has not taken up its post by then is stuck."""
    overdue_s: float = 10.0
    """How long any of these may be overdue (a process that does not die of being killed) before the watchdog
    is fed no more, and systemd starts the whole service anew."""

    def pause_s(self, deaths: int) -> float:
        """The wait before the next start, after so many deaths of its own accord within the window."""
        if deaths >= self.most_deaths:
            return self.failing_s
        return self.first_s if deaths <= 1 else self.then_s

    def pause_killed_s(self, kills: int) -> float:
        """The wait after so many kills by others within the window: each says nothing of the worker."""
        if kills <= 1:
            return self.first_s
        return min(self.longest_killed_s, self.then_s * 2.0 ** min(kills - 2, 10))


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """How long each step of an orderly stop may take; together less than 5 s."""

    captures_s: float = 0.5
    drain_s: float = 0.3
    scorer_s: float = 0.5
    publisher_s: float = 2.7
    snapshots_s: float = 0.8


@dataclass(slots=True)
class Seat:
    """A worker's place and who sits there."""

    name: str
    module: str
    process: subprocess.Popen[bytes] | None = None
    start_at_ns: int = 0
    killed_at_ns: int = 0
    """When it was first killed for being stuck; 0 unless it still has to die of it."""
    deaths: deque[int] = field(default_factory=deque)
    """Those of its own accord."""
    kills: deque[int] = field(default_factory=deque)
    """Its other deaths."""

    def recent_deaths(self, since_ns: int) -> int:
        """How many of its own accord since then; older ones are forgotten."""
        return _recent(self.deaths, since_ns)

    def recent_kills(self, since_ns: int) -> int:
        """How many by others since then; older ones are forgotten."""
        return _recent(self.kills, since_ns)

    @property
    def keeps_dying(self) -> bool:
        """Whether it has died more than once, whoever's doing that was."""
        return len(self.deaths) + len(self.kills) >= 2


def _recent(moments: deque[int], since_ns: int) -> int:
    while moments and moments[0] < since_ns:
        moments.popleft()
    return len(moments)


def killed_by_others(code: int) -> bool:
    """Whether a worker that ended so was ended from outside: by a signal that no program's fault brings, or
    in order, as it only does when it is asked to."""
    return code in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class Supervisor:
    """One line's processes. Made, then `run` until a signal; `run` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        policy: RestartPolicy = RestartPolicy(),
        stop_policy: StopPolicy = StopPolicy(),
        clock: Callable[[], int] = time.monotonic_ns,
        manager: Notifier | None = None,
    ) -> None:
        self._manager = manager or Notifier()
        self._told_ready = False
        self._settings, self._policy, self._stop_policy, self._clock = settings, policy, stop_policy, clock
        self._log = logging.getLogger(SUPERVISOR)
        self.session = uuid.uuid4()
        self.folder = paths.runtime(settings)
        self._stopping = False
        self._seats = {name: Seat(name, f"monitor.{name}") for name in (SCORING, PUBLISH, SNAPSHOTS)}
        if settings.review.port:
            self._seats[REVIEW] = Seat(REVIEW, f"monitor.{REVIEW}")
        self._captures = [capture_name(camera.name) for camera in settings.camera]
        self._rings: dict[str, Ring] = {}
        self._is_accounted_for = True
        """Whether nothing is left in the rings that the next start must look at."""

    def run(self) -> int:
        """Runs the line until SIGTERM or SIGINT. Raises places.PlaceError when it can't even start."""
        paths.make_data(self._settings)
        with paths.DataLock(self._settings):
            latch = salvage(self._settings, self.folder, self._log)
            paths.make_runtime(self.folder)
            signal.signal(signal.SIGTERM, self.stop)
            signal.signal(signal.SIGINT, self.stop)
            try:
                board, metrics = self._lay_down(latch)
                try:
                    self._work(board, metrics)
                finally:
                    self._stop_all(board, metrics)
            finally:
                if self._is_accounted_for:
                    paths.remove_runtime(self.folder)
        return 0

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Asks for an orderly stop."""
        self._stopping = True

    def _lay_down(self, latch: Latch) -> tuple[Board, Metrics]:
        workers = roll(self._settings)
        try:
            Board.create(self.folder / "board", workers)
            board = Board(self.folder / "board", workers)
            # Before there is a publisher, whose word it is.
            board.write(PUBLISH, Word.LATCH, latch)
            for camera in self._settings.camera:
                Ring.create(self.folder, camera.name, self.session)
                self._rings[camera.name] = Ring(self.folder, camera.name, self.session)
        except (OSError, RingError) as error:
            raise paths.PlaceError(
                f"can't make the rings in {self.folder}: {error}; free space there, or set RUNTIME_DIRECTORY"
            ) from error
        return board, Metrics(self._settings, self._rings, board, self._log)

    def _work(self, board: Board, metrics: Metrics) -> None:
        self._log.info("session %s on %s", self.session, self._settings.line.data)
        board.write(SUPERVISOR, Word.PID, os.getpid())
        since = self._clock()
        while not self._stopping:
            if self._captures and self._may_capture(board, since):
                for name in self._captures:
                    self._seats[name] = Seat(name, f"monitor.{CAPTURE}")
                self._captures = []
            self.run_once(board)
            metrics.step()
            self._tell_manager(board)
            time.sleep(_TICK_S)

    def run_once(self, board: Board) -> None:
        """One look at every worker."""
        for seat in self._seats.values():
            self._reap(board, seat)
            self._unstick(board, seat)
            if seat.process is None and self._clock() >= seat.start_at_ns:
                self._start(board, seat)
        self._note_failing(board)

    def _tell_manager(self, board: Board) -> None:
        """Ready once every recipe that can be loaded is warm: cameras and the broker may come and go. The
        watchdog is fed while this loop turns and every worker is fresh or about to be, by our own doing."""
        # A scorer that can't start makes the line degraded, not the service unstartable.
        if not self._told_ready and (board.read(SCORING, Word.EVER_RAN) or self._seats[SCORING].keeps_dying):
            self._told_ready = True
            self._manager.report_ready()
        # A page that hangs is no reason to take the line down.
        of_the_line = [seat for seat in self._seats.values() if seat.name != REVIEW]
        if all(self.within_budget(board, seat) for seat in of_the_line):
            self._manager.feed_watchdog()
        self._manager.report_status(
            lambda: status_line.words(self._settings, board, self._seats, self._clock())
        )

    def within_budget(self, board: Board, seat: Seat) -> bool:
        """Whether a worker is fresh, or `run_once` has until later to make it so."""
        if seat.killed_at_ns:
            due = seat.killed_at_ns
        elif seat.process is None:
            due = seat.start_at_ns
        else:
            due = board.read(seat.name, Word.PROMISE_NS) + int(self._policy.grace_s * 1e9)
        return self._clock() <= due + int(self._policy.overdue_s * 1e9)

    def _may_capture(self, board: Board, since_ns: int) -> bool:
        """Cameras start once parts can be judged and rejects sent, so that none is lost to our own start; a
        broker that is away is waited for only a moment."""
        if not board.read(SCORING, Word.EVER_RAN):
            # A scorer that can't start must not keep the cameras' state a secret.
            return self._seats[SCORING].keeps_dying
        linked = board.read(PUBLISH, Word.EVER_LINKED)
        waited = self._clock() - max(since_ns, board.read(SCORING, Word.SINCE_NS))
        return bool(linked) or waited > _BROKER_PATIENCE_NS

    def _start(self, board: Board, seat: Seat) -> None:
        now = self._clock()
        board.write(seat.name, Word.STATE, WorkerState.ABSENT)
        board.write(seat.name, Word.PROMISE_NS, now + int(self._policy.starting_s * 1e9))
        post = Post(
            name=seat.name,
            folder=str(self.folder),
            session=str(self.session),
            supervisor=os.getpid(),
            settings=settings_for(self._settings, seat.name),
        )
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE_VARIABLES)
        }
        try:
            seat.process = subprocess.Popen(
                [sys.executable, "-P", "-m", seat.module],
                stdin=subprocess.PIPE,
                env=environment,
                # Ctrl-C in a terminal is for the supervisor, which stops the workers in order.
                process_group=0,
            )
        except OSError as error:
            self._log.error("worker %s can't be started: %s", seat.name, error)
            self._bury(board, seat, now)
            return
        if seat.process.stdin is None:
            raise RuntimeError("a worker without standard input")
        try:
            seat.process.stdin.write(post.wire())
            seat.process.stdin.close()
        except BrokenPipeError:
            self._log.warning("worker %s died before it took up its post", seat.name)

    def _reap(self, board: Board, seat: Seat) -> None:
        if seat.process is None or (code := seat.process.poll()) is None:
            return
        # A worker that was stuck dies by our hand and of its own fault.
        by_others = killed_by_others(code) and not seat.killed_at_ns
        seat.process = None
        seat.killed_at_ns = 0
        pause = self._bury(board, seat, self._clock(), by_others=by_others)
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        self._log.error("worker %s ended %s; next start in %.1f s", seat.name, how, pause)

    def _bury(self, board: Board, seat: Seat, now: int, *, by_others: bool = False) -> float:
        """Notes a death and when the next worker starts; returns the pause until then in seconds."""
        board.write(seat.name, Word.STATE, WorkerState.ABSENT)
        since = now - int(self._policy.window_s * 1e9)
        if by_others:
            seat.kills.append(now)
            pause = self._policy.pause_killed_s(seat.recent_kills(since))
        else:
            seat.deaths.append(now)
            pause = self._policy.pause_s(seat.recent_deaths(since))
        seat.start_at_ns = now + int(pause * 1e9)
        board.write(seat.name, Word.RESTARTS, board.read(seat.name, Word.RESTARTS) + 1)
        return pause

    def _unstick(self, board: Board, seat: Seat) -> None:
        grace = int(self._policy.grace_s * 1e9)
        if seat.process is None or seat.killed_at_ns:
            return
        if self._clock() <= board.read(seat.name, Word.PROMISE_NS) + grace:
            return
        self._log.error("worker %s is stuck and is killed", seat.name)
        # One kill is enough. The promise stays broken: until `_reap` has it, it must not pass for fresh.
        seat.killed_at_ns = self._clock()
        seat.process.kill()

    def _note_failing(self, board: Board) -> None:
        since = self._clock() - int(self._policy.window_s * 1e9)
        failing = sum(
            1 << place
            for place, name in enumerate(roll(self._settings))
            if (seat := self._seats.get(name))
            and max(seat.recent_deaths(since), seat.recent_kills(since)) >= self._policy.most_deaths
        )
        board.write(SUPERVISOR, Word.FAILING, failing)

    def _stop_all(self, board: Board, metrics: Metrics) -> None:
        """Captures first, then what they left is scored, then published, then kept."""
        self._log.info("stopping")
        self._manager.report_stopping()
        metrics.close()
        board.write(SUPERVISOR, Word.STOPPING, 1)
        policy = self._stop_policy
        first = [name for name in self._seats if name.startswith(f"{CAPTURE}-") or name == REVIEW]
        self._end(first, policy.captures_s)
        drained_by = self._clock() + int(policy.drain_s * 1e9)
        while self._clock() < drained_by and any(ring.waiting() for ring in self._rings.values()):
            time.sleep(0.01)
        self._end([SCORING], policy.scorer_s)
        self._end([PUBLISH], policy.publisher_s)
        # One that had to be killed, or was away, may not have sent every reject: `salvage` looks for these.
        publisher = self._seats[PUBLISH].process
        self._is_accounted_for = publisher is not None and publisher.returncode == 0
        self._end([SNAPSHOTS], policy.snapshots_s)
        for name, ring in self._rings.items():
            tally = ring.tally()
            self._log.info(
                "camera %s: %d frames: %d passed, %d rejected, %d uninspected",
                name,
                ring.last_frame(),
                tally.passed,
                tally.rejected,
                sum(tally.uninspected),
            )
            ring.close()
        board.close()

    def _end(self, names: list[str], within_s: float) -> None:
        """SIGTERM, and SIGKILL for who does not heed it in time."""
        processes = [seat.process for name in names if (seat := self._seats[name]).process is not None]
        running = [process for process in processes if process is not None and process.poll() is None]
        for process in running:
            process.terminate()
        until = self._clock() + int(within_s * 1e9)
        for process in running:
            try:
                process.wait(max(0.0, (until - self._clock()) / 1e9))
            except subprocess.TimeoutExpired:
                process.kill()
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    # The kernel holds it (a disk that hangs); it is killed as soon as it is let go.
                    self._log.error("process %d does not die: a device or a disk hangs", process.pid)


def run(settings: Settings) -> int:
    """The `run` command."""
    return Supervisor(settings).run()
