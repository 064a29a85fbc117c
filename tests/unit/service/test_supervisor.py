"""A worker that keeps dying of its own fault is started every 20 s; one that is killed or stopped from
outside at once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from monitor.line_state.board import Board, Field
from monitor.line_state.worker_process import PUBLISH, REVIEW, SCORING, SUPERVISOR, worker_names
from monitor.paths import make_data, make_runtime
from monitor.publish.worker import LONGEST_STOP_S
from monitor.service.supervisor import RestartPolicy, StopPolicy, SupervisedWorker, Supervisor
from monitor.settings import LogLevel, LogSettings, Settings, SettingsError
from monitor.system.process_state import is_stopped
from monitor.system.systemd import Notifier

S = 1_000_000_000


class Watched:
    """A supervisor with one worker and with a clock that the test sets. Small programs stand for the worker:
    they end as the test wants."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000 * S
        line = Settings(line={"data": folder}, metrics={"port": 0}, review={"port": 0})
        make_data(line)
        self.policy, self.file = RestartPolicy(), line
        self.supervisor = Supervisor(
            line,
            self.policy,
            clock=lambda: self.now,
            systemd=Notifier({}),
            read_settings=lambda: self.file,
        )
        make_runtime(self.supervisor.folder)
        Board.create(self.supervisor.folder / "board", worker_names(line))
        self.board = Board(self.supervisor.folder / "board", worker_names(line))
        self.worker = SupervisedWorker(PUBLISH, f"monitor.{PUBLISH}")

    def dies(self, how: int, after_s: float = 0.0, *, was_stopped: bool = False) -> float:
        """Ends the worker so long after its start, with that exit code, or by that signal as a negative
        number; `was_stopped`: the supervisor ends it, since a signal had stopped it. Returns the wait before
        the next start in seconds."""
        self.now = max(self.now, self.worker.start_at_ns) + int(after_s * S)
        program = f"import os; os.kill(os.getpid(), {-how})" if how < 0 else f"raise SystemExit({how})"
        self.worker.process = subprocess.Popen([sys.executable, "-I", "-c", program])
        assert self.worker.process.wait(10) == how
        self.worker.was_stopped = was_stopped
        self.supervisor._reap(self.board, self.worker)
        assert self.worker.process is None
        return (self.worker.start_at_ns - self.now) / S

    def fails(self, name: str = PUBLISH) -> bool:
        """Whether the board shows that the worker keeps dying."""
        self.supervisor._workers = {name: self.worker}
        self.supervisor._write_failing(self.board)
        return self.board.read(SUPERVISOR, Field.FAILING) == 1 << worker_names(self.file).index(name)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.board.close()


@pytest.mark.parametrize("how", [1, 3, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS])
def test_the_fifth_death_of_its_own_accord_within_a_minute_keeps_it_away(watched: Watched, how: int) -> None:
    assert [watched.dies(how, after_s=2) for _ in range(4)] == [0.0, 0.5, 0.5, 0.5]
    assert not watched.fails()
    assert watched.dies(how, after_s=2) == watched.policy.failing_s
    assert watched.fails()
    assert watched.dies(how, after_s=61) == 0.0
    assert not watched.fails()


@pytest.mark.parametrize("how", [-signal.SIGKILL, -signal.SIGTERM, 0])
def test_a_worker_that_others_kill_is_never_kept_away_for_long(watched: Watched, how: int) -> None:
    watched.worker.name = SCORING
    assert [watched.dies(how, after_s=2) for _ in range(4)] == [0.0, 0.5, 1.0, 2.0]
    assert not watched.fails(SCORING)
    assert [watched.dies(how, after_s=2) for _ in range(3)] == [4.0, 5.0, 5.0]
    assert watched.fails(SCORING), "a person should look at it, since it goes on"
    assert watched.board.read(SCORING, Field.RESTARTS) == 7
    assert watched.dies(how, after_s=61) == 0.0
    assert not watched.fails(SCORING)


@pytest.mark.parametrize("how", [-signal.SIGKILL, -signal.SIGTERM, 0])
def test_a_publisher_that_others_kill_is_away_for_half_a_second_at_most(watched: Watched, how: int) -> None:
    assert [watched.dies(how, after_s=2) for _ in range(7)] == [0.0] + [0.5] * 6
    assert watched.fails()


@pytest.mark.parametrize("name", [PUBLISH, SCORING])
def test_a_worker_that_a_signal_stops_again_and_again_is_started_at_once(watched: Watched, name: str) -> None:
    watched.worker.name = name
    pauses = [watched.dies(-signal.SIGKILL, after_s=2, was_stopped=True) for _ in range(4)]
    assert pauses == [0.0] * 4
    assert not watched.fails(name)
    assert watched.dies(-signal.SIGKILL, after_s=2, was_stopped=True) >= 0.5
    assert watched.fails(name)


def test_a_publisher_with_a_ready_spare_is_started_at_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_ready = iter([True, True, False, True, True])
    monkeypatch.setattr(watched.supervisor._spare_publisher, "is_ready", lambda now: next(is_ready))
    pauses = [watched.dies(-signal.SIGKILL, after_s=2) for _ in range(5)]
    assert pauses == [0.0, 0.0, 0.5, 0.0, 0.5], "the fifth time it counts as failing"


def test_kills_by_others_bring_its_own_deaths_no_nearer_to_a_crash_loop(watched: Watched) -> None:
    for _ in range(4):
        watched.dies(-signal.SIGKILL)
        watched.dies(1)
    assert not watched.fails()
    assert watched.dies(1) == watched.policy.failing_s


def test_a_worker_that_has_to_be_killed_for_being_stuck_dies_of_its_own_fault(watched: Watched) -> None:
    pauses = []
    for _ in range(5):
        watched.worker.killed_at_ns = watched.now
        pauses.append(watched.dies(-signal.SIGKILL, after_s=2))
    assert pauses[-1] == watched.policy.failing_s
    assert watched.fails()


def test_the_watchdog_starves_only_when_the_supervisor_can_not_help_itself(watched: Watched) -> None:
    """A process that sleeps stands for the worker: it lives and never reports."""
    supervisor, board, worker, policy = watched.supervisor, watched.board, watched.worker, watched.policy
    board.write(PUBLISH, Field.ALIVE_UNTIL_NS, watched.now + S)
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        worker.process = process
        assert supervisor.within_budget(board, worker)
        watched.now += int((1 + policy.grace_s) * S) + S
        assert supervisor.within_budget(board, worker), "overdue, but the next look kills it"
        worker.killed_at_ns = watched.now
        board.write(PUBLISH, Field.ALIVE_UNTIL_NS, watched.now + 100 * S)
        watched.now += int(policy.overdue_s * S) - 1
        assert supervisor.within_budget(board, worker), "it may take a moment to die"
        watched.now += 2
        assert not supervisor.within_budget(board, worker), "killed, and it does not die"
        process.kill()
    worker.process, worker.killed_at_ns = None, 0
    worker.start_at_ns = watched.now + int(policy.failing_s * S)
    assert supervisor.within_budget(board, worker), "a worker that keeps dying starts late on purpose"


def test_a_publisher_that_everything_keeps_waiting_is_not_killed_in_an_orderly_stop_of_5_s() -> None:
    policy = StopPolicy()
    assert policy.publisher_s > LONGEST_STOP_S + 0.2, "0.2 s for the end of its process"
    assert sum(getattr(policy, step.name) for step in fields(policy)) < 5.0


def test_a_worker_that_must_be_killed_at_the_stop_is_named(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    program = "trap '' TERM; echo ready; while true; do sleep 1; done"
    with subprocess.Popen(["/bin/sh", "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watched.worker.process = process
        watched.supervisor._workers = {REVIEW: watched.worker}
        watched.supervisor._end([REVIEW], 0.1)
        assert process.wait(10) == -signal.SIGKILL
    said = [record.getMessage() for record in caplog.records if "killed" in record.getMessage()]
    assert said == ["worker review did not end within 0.1 s and is killed"]


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


class Stopped:
    """A supervisor's worker that a signal has stopped, and looks of the supervisor every 50 ms."""

    def __init__(self, watched: Watched, process: subprocess.Popen[bytes]) -> None:
        self.watched, self.process = watched, process
        watched.worker.process = process
        watched.board.write(PUBLISH, Field.ALIVE_UNTIL_NS, watched.now + 100 * S)

    def send(self, stop: signal.Signals) -> None:
        os.kill(self.process.pid, stop)
        wait_until(lambda: is_stopped(self.process.pid) is (stop is signal.SIGSTOP))

    def looks(self, seconds: float) -> bool:
        """Whether the supervisor kills the worker within that time."""
        for _ in range(round(seconds / 0.05)):
            self.watched.now += S // 20
            self.watched.supervisor._kill_if_stuck(self.watched.board, self.watched.worker)
            if self.watched.worker.killed_at_ns:
                assert self.watched.board.is_lost(PUBLISH)
                return True
        return False


@pytest.fixture
def stopped(watched: Watched) -> Iterator[Stopped]:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        yield Stopped(watched, process)
        process.kill()


def test_a_worker_that_a_signal_has_stopped_is_killed_within_a_second(stopped: Stopped) -> None:
    """Though it counts as alive for a long time yet, as a worker that is starting does."""
    assert not stopped.looks(5)
    stopped.send(signal.SIGSTOP)
    assert stopped.looks(0.9)
    wait_until(lambda: stopped.process.poll() is not None)
    assert stopped.process.returncode == -signal.SIGKILL


def test_a_worker_that_is_stopped_for_a_moment_goes_on(stopped: Stopped) -> None:
    for _ in range(20):
        stopped.send(signal.SIGSTOP)
        assert not stopped.looks(0.5)
        stopped.send(signal.SIGCONT)
        assert not stopped.looks(0.1)


def test_the_successor_of_a_stopped_worker_starts_at_once_and_only_after_its_end(stopped: Stopped) -> None:
    watched = stopped.watched
    started: list[int | None] = []
    watched.supervisor._start = lambda board, worker: started.append(stopped.process.poll())  # type: ignore[method-assign]
    watched.supervisor._workers = {PUBLISH: watched.worker}
    stopped.send(signal.SIGSTOP)
    for _ in range(2000):
        watched.now += S // 20
        watched.supervisor.run_once(watched.board)
        if started:
            break
        time.sleep(0.001)
    assert started == [-signal.SIGKILL]
    assert not watched.worker.deaths
    assert len(watched.worker.kills) == 1, "a stop by a signal is no fault of the worker"
    assert not watched.worker.was_stopped, "the next process has not been stopped"


def test_a_stuck_worker_that_is_not_stopped_has_the_time_that_it_had(stopped: Stopped) -> None:
    watched = stopped.watched
    watched.board.write(PUBLISH, Field.ALIVE_UNTIL_NS, watched.now + 2 * S)
    assert not stopped.looks(4.9), "2 s until it counts as stuck, and 3 s more"
    assert stopped.looks(0.2)
    assert not watched.worker.was_stopped


def test_a_pause_of_the_whole_line_kills_no_worker(stopped: Stopped) -> None:
    """The supervisor may wake before its worker."""
    watched = stopped.watched
    watched.supervisor._workers = {PUBLISH: watched.worker}
    watched.board.write(PUBLISH, Field.ALIVE_UNTIL_NS, watched.now + 2 * S)
    stopped.send(signal.SIGSTOP)
    watched.supervisor.run_once(watched.board)
    watched.now += 20 * S
    watched.supervisor.run_once(watched.board)
    assert watched.supervisor.within_budget(watched.board, watched.worker)
    stopped.send(signal.SIGCONT)
    assert not stopped.looks(2.9), "it has 3 s to report that it is alive"
    assert stopped.looks(0.2), "a worker that stays silent is stuck"


def test_a_reload_reaches_the_board_and_the_workers_that_start_later(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.file = watched.file.model_copy(update={"log": LogSettings(level=LogLevel.ERROR)})
    root = logging.getLogger()
    before = root.level
    try:
        watched.supervisor.hang_up()
        assert watched.supervisor._must_reload
        watched.supervisor.reload(watched.board)
        assert root.level == logging.ERROR
    finally:
        root.setLevel(before)
    assert watched.board.read(SUPERVISOR, Field.LOG_LEVEL) == logging.ERROR
    assert watched.supervisor._settings.log.level is LogLevel.ERROR
    assert "settings reloaded: log.level info -> error" in caplog.messages, "written before the level counts"


def test_a_file_that_cant_be_used_changes_nothing_and_is_told(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Settings:
        raise SettingsError(
            "line.toml: camera.0.deadline_ms: must be a whole number\nline.toml: mqtt.port: no"
        )

    watched.supervisor._read_settings = refuse
    before = watched.supervisor._settings
    watched.supervisor.reload(watched.board)
    assert watched.supervisor._settings is before
    assert watched.board.read(SUPERVISOR, Field.RELOADS) == 0
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert caplog.messages[1].endswith("line.toml: mqtt.port: no")


def test_a_hangup_of_the_lines_own_terminal_stops_it_in_order(watched: Watched) -> None:
    terminal, other_end = os.openpty()
    watched.supervisor._terminal = [other_end]
    watched.supervisor.hang_up()
    assert (watched.supervisor._must_reload, watched.supervisor._stopping) == (True, False)
    os.close(terminal)
    watched.supervisor.hang_up()
    assert watched.supervisor._stopping
    os.close(other_end)
