"""The supervisor: starts the workers of the line, watches them, restarts them, and stops them in order.

It opens no camera, loads no recipe and connects to no broker. It holds the lock on the data folder, and makes
and removes the runtime directory. It is not on a frame's way: while it is busy or stopped, the workers
continue.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from monitor import paths
from monitor.errors import LineMonitorError
from monitor.line_state import challenge_board
from monitor.line_state.board import Board, Field, WorkerState
from monitor.line_state.counts import count_verdicts
from monitor.line_state.live_settings import write_live_settings
from monitor.line_state.ring import Ring, RingError
from monitor.line_state.worker_process import (
    CAPTURE,
    PUBLISH,
    REVIEW,
    SCORING,
    SNAPSHOTS,
    SUPERVISOR,
    WorkerStart,
    capture_name,
    settings_for,
    worker_names,
)
from monitor.service import status_line
from monitor.service.child_process import give_start_data, start_process
from monitor.service.prometheus import Metrics
from monitor.service.recovery import Recovered, recover
from monitor.service.reload import compare_settings
from monitor.service.restart_policy import HoldWatch, RestartPolicy, StopWatch, is_killed_from_outside
from monitor.service.spare import Spare
from monitor.settings import Settings
from monitor.system.process_state import is_stopped
from monitor.system.systemd import Notifier

_TICK_S = 0.05
_KILL_WAIT_S = 0.5
"""The longest wait for the end of a process that was killed at the stop of the line."""
_BROKER_WAIT_NS = 6_000_000_000
"""The longest wait for the broker before the cameras start. It includes the 3 s in which the publisher
listens for another line with the same names."""
_RESTART_POLICY = RestartPolicy()


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """The longest time for each step of an orderly stop, together less than 5 s."""

    captures_s: float = 0.5
    drain_s: float = 0.3
    scorer_s: float = 0.5
    publisher_s: float = 2.85
    snapshots_s: float = 0.8


@dataclass(slots=True)
class SupervisedWorker:
    """One worker: its present process, and the times at which its earlier processes died."""

    name: str
    module: str
    process: subprocess.Popen[bytes] | None = None
    start_at_ns: int = 0
    killed_at_ns: int = 0
    """When the supervisor killed the process because it was stuck or stopped; 0 if it did not, and after the
    process has ended."""
    was_stopped: bool = False
    """Whether the supervisor killed the process because a signal had stopped it."""
    stop_watch: StopWatch = field(default_factory=StopWatch)
    deaths: deque[int] = field(default_factory=deque)
    """The times of its own deaths, which a fault of the worker caused."""
    kills: deque[int] = field(default_factory=deque)
    """The times of the kills from outside."""

    def count_deaths(self, since_ns: int) -> int:
        """The number of own deaths since that time. Earlier ones are forgotten."""
        return _count_since(self.deaths, since_ns)

    def count_kills(self, since_ns: int) -> int:
        """The number of kills from outside since that time. Earlier ones are forgotten."""
        return _count_since(self.kills, since_ns)

    @property
    def has_died_twice(self) -> bool:
        """Whether it has died at least twice within the policy's window, by its own fault or from outside.
        The start of the line then waits for it no longer. `most_deaths` is the higher limit of a failing
        worker."""
        return len(self.deaths) + len(self.kills) >= 2


def _count_since(times_ns: deque[int], since_ns: int) -> int:
    while times_ns and times_ns[0] < since_ns:
        times_ns.popleft()
    return len(times_ns)


class Supervisor:
    """The processes of one line. `run` works until a signal and returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        policy: RestartPolicy = _RESTART_POLICY,
        stop_policy: StopPolicy = StopPolicy(),
        clock: Callable[[], int] = time.monotonic_ns,
        systemd: Notifier | None = None,
        read_settings: Callable[[], Settings] | None = None,
    ) -> None:
        """`read_settings` reads the settings anew for a reload."""
        self._read_settings = read_settings or (lambda: settings)
        self._must_reload = False
        self._needs_restart: tuple[str, ...] = ()
        """The settings that differ from the file's and count only after a restart."""
        self._terminal = [stream for stream in (0, 1, 2) if os.isatty(stream)]
        """The standard streams that lead to a terminal."""
        self._systemd = systemd or Notifier()
        self._reported_ready = False
        self._settings, self._policy, self._stop_policy, self._clock = settings, policy, stop_policy, clock
        self._log = logging.getLogger(SUPERVISOR)
        self.session = uuid.uuid4()
        self.folder = paths.runtime(settings)
        self._stopping = False
        self._workers = {
            name: SupervisedWorker(name, f"monitor.{name}") for name in (SCORING, PUBLISH, SNAPSHOTS)
        }
        if settings.review.port:
            self._workers[REVIEW] = SupervisedWorker(REVIEW, f"monitor.{REVIEW}")
        self._hold_watch = HoldWatch()
        self._spare_publisher = Spare(f"monitor.{PUBLISH}", self._log)
        self._captures_to_start = [capture_name(camera.name) for camera in settings.camera]
        self._rings: dict[str, Ring] = {}
        self._rings_are_finished = True
        """Whether the next start needs nothing from the rings and the board, so that the runtime directory
        can be removed at the end."""

    def run(self) -> int:
        """Runs the line until SIGTERM or SIGINT. Raises PathError when the line can't be started."""
        paths.make_data(self._settings)
        with paths.DataLock(self._settings):
            recovered = recover(self._settings, self.folder, self._log)
            paths.make_runtime(self.folder)
            signal.signal(signal.SIGTERM, self.stop)
            signal.signal(signal.SIGINT, self.stop)
            signal.signal(signal.SIGHUP, self.hang_up)
            try:
                board, metrics = self._create_shared_memory(recovered)
                try:
                    self._work(board, metrics)
                finally:
                    self._stop_all(board, metrics)
            finally:
                if self._rings_are_finished:
                    paths.remove_runtime(self.folder)
        return 0

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Starts an orderly stop."""
        self._stopping = True

    def hang_up(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Reads the settings anew soon, or starts an orderly stop where the terminal of the line has been
        closed: the kernel sends SIGHUP for that too."""
        if not all(os.isatty(stream) for stream in self._terminal):
            self._stopping = True
        else:
            self._must_reload = True

    def _create_shared_memory(self, recovered: Recovered) -> tuple[Board, Metrics]:
        workers = worker_names(self._settings)
        try:
            Board.create(self.folder / "board", workers)
            board = Board(self.folder / "board", workers)
            # Only the publisher writes these fields later; it has not been started yet.
            board.write(PUBLISH, Field.LATCH, recovered.latch)
            if recovered.challenge is not None:
                challenge_board.write_state(board, recovered.challenge)
            write_live_settings(board, self._settings)
            for camera in self._settings.camera:
                Ring.create(self.folder, camera.name, self.session)
                self._rings[camera.name] = Ring(self.folder, camera.name, self.session)
        except (OSError, RingError) as error:
            raise paths.PathError(
                f"can't make the rings in {self.folder}: {error}; free space there, or set RUNTIME_DIRECTORY"
            ) from error
        return board, Metrics(self._settings, self._rings, board, self._log, recovered.lost_rejects)

    def _work(self, board: Board, metrics: Metrics) -> None:
        self._log.info("session %s on %s", self.session, self._settings.line.data)
        board.write(SUPERVISOR, Field.PID, os.getpid())
        since = self._clock()
        while not self._stopping:
            if self._captures_to_start and self._may_capture(board, since):
                for name in self._captures_to_start:
                    self._workers[name] = SupervisedWorker(name, f"monitor.{CAPTURE}")
                self._captures_to_start = []
            if self._must_reload:
                self._must_reload = False
                self.reload(board)
            self.run_once(board)
            if board.is_fresh(PUBLISH, self._clock()):
                self._spare_publisher.step(self._clock())
            metrics.step()
            self._notify_systemd(board)
            time.sleep(_TICK_S)

    def reload(self, board: Board) -> None:
        """Reads the settings anew, hands those to the workers that need no restart, and says what does. The
        line goes on with its present settings if the new ones can't be used."""
        try:
            found = compare_settings(self._settings, self._read_settings())
        except LineMonitorError as error:
            for line in str(error).splitlines():
                self._log.error("settings not reloaded, the line goes on with those of before: %s", line)
            return
        self._settings, self._needs_restart = found.settings, found.needs_restart
        write_live_settings(board, self._settings)
        root, level = logging.getLogger(), self._settings.log.level.number
        # These lines are written whether they come before or after a change of the level.
        root.setLevel(min(level, logging.WARNING))
        for line in found.lines():
            self._log.warning("%s", line)
        root.setLevel(level)

    def run_once(self, board: Board) -> None:
        """Checks every worker once: records a dead one, kills a stuck one, starts a missing one."""
        if self._hold_watch.look(self._clock(), int(self._policy.grace_s * 1e9)):
            self._log.warning("this process was held for seconds, as by a pause of the machine")
            for worker in self._workers.values():
                worker.stop_watch = StopWatch()
        for worker in self._workers.values():
            self._reap(board, worker)
            self._kill_if_stuck(board, worker)
            if worker.process is None and self._clock() >= worker.start_at_ns:
                self._start(board, worker)
        self._write_failing(board)

    def _notify_systemd(self, board: Board) -> None:
        """Sends systemd what is due: ready, the watchdog's message, the state as text.

        Ready is sent once the scoring worker has warmed up its recipes; cameras and the broker may follow
        later. The watchdog is fed while every worker except the review page is within its budget of time.
        """
        # When the scoring worker can't start, the line is degraded; the start of the service must not fail.
        scoring_has_died_twice = self._workers[SCORING].has_died_twice
        if not self._reported_ready and (board.read(SCORING, Field.EVER_RAN) or scoring_has_died_twice):
            self._reported_ready = True
            self._systemd.report_ready()
        # A review page that hangs must not restart the line.
        workers = [worker for worker in self._workers.values() if worker.name != REVIEW]
        if all(self.within_budget(board, worker) for worker in workers):
            self._systemd.feed_watchdog()
        self._systemd.report_status(
            lambda: status_line.make_text(
                self._settings, board, self._workers, self._clock(), self._needs_restart
            )
        )

    def within_budget(self, board: Board, worker: SupervisedWorker) -> bool:
        """Whether a worker is alive, or its kill or its next start is not overdue by more than
        `overdue_s`."""
        if worker.killed_at_ns:
            due = worker.killed_at_ns
        elif worker.process is None:
            due = worker.start_at_ns
        else:
            due = self._alive_until_ns(board, worker) + int(self._policy.grace_s * 1e9)
        return self._clock() <= due + int(self._policy.overdue_s * 1e9)

    def _alive_until_ns(self, board: Board, worker: SupervisedWorker) -> int:
        """The time until which the worker counts as alive: at least the end of the last break, in which it
        could not report."""
        return max(board.read(worker.name, Field.ALIVE_UNTIL_NS), self._hold_watch.since_ns)

    def _may_capture(self, board: Board, since_ns: int) -> bool:
        """Whether the capture workers may start: parts can be judged and rejects can be sent, so that the
        start loses no part. A missing broker delays them by 6 s at most, once the publisher runs."""
        if not board.read(SCORING, Field.EVER_RAN):
            # When the scoring worker can't start, the cameras start nevertheless, so that their state is
            # shown.
            return self._workers[SCORING].has_died_twice
        linked = board.read(PUBLISH, Field.EVER_CONNECTED)
        waited = self._clock() - max(since_ns, board.read(SCORING, Field.SINCE_NS))
        # On a busy machine the publisher may take longer to start than the broker to be missed.
        is_publisher_due = board.read(PUBLISH, Field.EVER_RAN) or self._workers[PUBLISH].has_died_twice
        return bool(linked) or bool(is_publisher_due and waited > _BROKER_WAIT_NS)

    def _start(self, board: Board, worker: SupervisedWorker) -> None:
        now = self._clock()
        board.write(worker.name, Field.STATE, WorkerState.ABSENT)
        board.write(worker.name, Field.ALIVE_UNTIL_NS, now + int(self._policy.starting_s * 1e9))
        start = WorkerStart(
            name=worker.name,
            folder=str(self.folder),
            session=str(self.session),
            supervisor=os.getpid(),
            settings=settings_for(self._settings, worker.name),
        )
        spare = self._spare_publisher.take(now) if worker.name == PUBLISH else None
        try:
            worker.process = spare or start_process(worker.module)
        except OSError as error:
            self._log.error("worker %s can't be started: %s", worker.name, error)
            self._record_death(board, worker, now)
            return
        if not give_start_data(worker.process, start.to_json()):
            self._log.warning("worker %s died before it had read its start data", worker.name)

    def _reap(self, board: Board, worker: SupervisedWorker) -> None:
        """Records and logs the end of a worker's process, if it has ended."""
        if worker.process is None or (code := worker.process.poll()) is None:
            return
        # When the supervisor has killed a stuck worker, that counts as the worker's own death. A signal that
        # stopped it came from outside.
        from_outside = is_killed_from_outside(code) and (not worker.killed_at_ns or worker.was_stopped)
        worker.process = None
        pause = self._record_death(board, worker, self._clock(), from_outside=from_outside)
        worker.killed_at_ns, worker.was_stopped = 0, False
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        self._log.error("worker %s ended %s; next start in %.1f s", worker.name, how, pause)

    def _record_death(
        self, board: Board, worker: SupervisedWorker, now: int, *, from_outside: bool = False
    ) -> float:
        """Records a death and sets the time of the next start. Returns the wait until that start in
        seconds."""
        board.write(worker.name, Field.STATE, WorkerState.ABSENT)
        since = now - int(self._policy.window_s * 1e9)
        if from_outside:
            worker.kills.append(now)
            is_publisher = worker.name == PUBLISH
            at_once = worker.was_stopped or (is_publisher and self._spare_publisher.is_ready(now))
            pause = self._policy.pause_killed_s(
                worker.count_kills(since), is_publisher=is_publisher, at_once=at_once
            )
        else:
            worker.deaths.append(now)
            pause = self._policy.pause_s(worker.count_deaths(since))
        worker.start_at_ns = now + int(pause * 1e9)
        board.write(worker.name, Field.RESTARTS, board.read(worker.name, Field.RESTARTS) + 1)
        return pause

    def _kill_if_stuck(self, board: Board, worker: SupervisedWorker) -> None:
        grace = int(self._policy.grace_s * 1e9)
        if worker.process is None or worker.killed_at_ns:
            return
        now, pid = self._clock(), worker.process.pid
        stopped_ns = worker.stop_watch.stopped_for_ns(pid, is_stopped(pid), now)
        worker.was_stopped = stopped_ns >= int(self._policy.stopped_s * 1e9)
        if worker.was_stopped:
            self._log.error("worker %s was stopped by a signal from outside and is killed", worker.name)
        elif now > self._alive_until_ns(board, worker) + grace:
            self._log.error("worker %s is stuck and is killed", worker.name)
        else:
            return
        # The process is killed once, and counts as lost from now on.
        worker.killed_at_ns = now
        board.write(worker.name, Field.STATE, WorkerState.ABSENT)
        worker.process.kill()

    def _write_failing(self, board: Board) -> None:
        """Writes to the board which workers are failing: those with at least `most_deaths` own deaths, or so
        many kills from outside, within the policy's window."""
        since = self._clock() - int(self._policy.window_s * 1e9)
        failing = sum(
            1 << place
            for place, name in enumerate(worker_names(self._settings))
            if (worker := self._workers.get(name))
            and max(worker.count_deaths(since), worker.count_kills(since)) >= self._policy.most_deaths
        )
        board.write(SUPERVISOR, Field.FAILING, failing)

    def _stop_all(self, board: Board, metrics: Metrics) -> None:
        """Stops the workers in the order of a frame's way: capture, scoring, publisher, snapshot writer. So
        each worker can finish the frames that it has from the one before."""
        self._log.info("stopping")
        self._systemd.report_stopping()
        metrics.close()
        self._spare_publisher.close()
        board.write(SUPERVISOR, Field.STOPPING, 1)
        policy = self._stop_policy
        first = [name for name in self._workers if name.startswith(f"{CAPTURE}-") or name == REVIEW]
        self._end(first, policy.captures_s)
        drained_by = self._clock() + int(policy.drain_s * 1e9)
        while self._clock() < drained_by and any(ring.unreleased_frames() for ring in self._rings.values()):
            time.sleep(0.01)
        self._end([SCORING], policy.scorer_s)
        self._end([PUBLISH], policy.publisher_s)
        # With another exit code than 0, or without a publisher, a reject may be unsent, or latch or challenge
        # not on disk. Then rings and board are kept, and the next start reads all of them there.
        publisher = self._workers[PUBLISH].process
        self._rings_are_finished = publisher is not None and publisher.returncode == 0
        self._end([SNAPSHOTS], policy.snapshots_s)
        for name, ring in self._rings.items():
            now = count_verdicts(ring)
            self._log.info(
                "camera %s: %d frames: %d passed, %d rejected, %d uninspected%s",
                name,
                now.frames,
                now.passed,
                now.rejected,
                sum(now.uninspected),
                f", {sum(now.challenges)} of challenge parts" if sum(now.challenges) else "",
            )
            ring.close()
        board.close()

    def _end(self, names: list[str], within_s: float) -> None:
        """Ends workers by SIGTERM, and after `within_s` seconds by SIGKILL."""
        processes = [(name, self._workers[name].process) for name in names]
        running = [(name, one) for name, one in processes if one is not None and one.poll() is None]
        for _, process in running:
            process.terminate()
        until = self._clock() + int(within_s * 1e9)
        for name, process in running:
            try:
                process.wait(max(0.0, (until - self._clock()) / 1e9))
            except subprocess.TimeoutExpired:
                self._log.warning("worker %s did not end within %.1f s and is killed", name, within_s)
                process.kill()
                try:
                    process.wait(_KILL_WAIT_S)
                except subprocess.TimeoutExpired:
                    # The kernel frees the memory of the process, or waits for its device or disk.
                    self._log.error(
                        "worker %s has not ended %.1f s after its kill: this computer is overloaded, or a "
                        "device or a disk hangs",
                        name,
                        _KILL_WAIT_S,
                    )


def run(settings: Settings, read_settings: Callable[[], Settings]) -> int:
    """The `run` command. `read_settings` reads the settings anew for a reload."""
    return Supervisor(settings, read_settings=read_settings).run()
