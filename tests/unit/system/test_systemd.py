"""What systemd hears: ready, alive in time, and words; and nothing where nobody listens."""

from __future__ import annotations

import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from monitor.line_state.board import Board, CameraState, Word, WorkerState
from monitor.line_state.latch import Latch
from monitor.line_state.worker_process import PUBLISH, SCORING, SNAPSHOTS, SUPERVISOR, capture_name, roll
from monitor.paths import make_data, make_runtime
from monitor.service.status_line import make_text
from monitor.service.supervisor import RestartPolicy, SupervisedWorker, Supervisor
from monitor.settings import Settings
from monitor.system.systemd import Notifier

S = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100 * S

    def __call__(self) -> int:
        return self.now


def heard(listener: socket.socket) -> list[str]:
    said = []
    listener.setblocking(False)
    while True:
        try:
            said.append(listener.recv(4096).decode())
        except BlockingIOError:
            return said


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_words_and_life_reach_the_managers_socket(abstract: bool, tmp_path: Path) -> None:
    name = f"@line-monitor-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    clock = Clock()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0") if abstract else name)
        manager = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "7"}, clock, 7)
        manager.report_ready()
        for _ in range(90):
            manager.feed_watchdog()
            manager.report_status(lambda: "ready;\n1 camera up")
            clock.now += S // 10
        manager.report_stopping()
        said = heard(listener)
    assert said[0] == "READY=1"
    assert said[-1] == "STOPPING=1\nSTATUS=stopping"
    assert said.count("WATCHDOG=1") == 3, "three times within the watchdog's patience"
    assert said.count("STATUS=ready; 1 camera up") == 1, "said when it changes, in one line"


def test_another_process_watchdog_is_not_fed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        Notifier(
            {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "7"},
            pid=8,
        ).feed_watchdog()
        assert heard(listener) == []


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    place = str(tmp_path / "notify")
    gone = Notifier({"NOTIFY_SOCKET": place})
    gone.report_ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(place)
        for _ in range(2000):
            gone.report_ready()
        assert len(heard(listener)) < 2000
    Notifier({}).report_ready()


def settings(tmp_path: Path) -> Settings:
    return Settings(
        line={"data": tmp_path},
        camera=[
            {"name": name, "source": f"folder://{tmp_path}", "recipe": "plate"} for name in ("top", "side")
        ],
        metrics={"port": 0},
        review={"port": 0},
    )


def board_of(line: Settings, folder: Path) -> Board:
    Board.create(folder / "board", roll(line))
    return Board(folder / "board", roll(line))


def running(board: Board, worker: str, clock: Clock) -> None:
    board.write(worker, Word.STATE, WorkerState.RUNNING)
    board.write(worker, Word.EVER_RAN, 1)
    board.write(worker, Word.PROMISE_NS, clock.now + S)


def test_the_words_tell_what_is_in_the_way(tmp_path: Path) -> None:
    line, clock = settings(tmp_path), Clock()
    board = board_of(line, tmp_path)
    there = (SCORING, PUBLISH, SNAPSHOTS)

    def said() -> str:
        return make_text(line, board, there, clock.now)

    assert said() == "starting: recipes are loaded and warmed up"
    for worker in (*there, capture_name("top"), capture_name("side")):
        running(board, worker, clock)
    assert said().startswith("not ready; no broker yet at 127.0.0.1:1883; 0 of 2 cameras up")
    board.write(PUBLISH, Word.EVER_LINKED, 1)
    board.write(PUBLISH, Word.READY, 1)
    for camera in ("top", "side"):
        board.write(capture_name(camera), Word.CAMERA_STATE, CameraState.UP)
    assert said() == "ready; 2 of 2 cameras up"
    board.write(capture_name("side"), Word.CAMERA_STATE, CameraState.FROZEN)
    board.write(PUBLISH, Word.READY, 0)
    board.write(PUBLISH, Word.LATCH, Latch.MISSED_REJECT)
    board.write(SCORING, Word.WITHOUT_RECIPE, 0b10)
    board.write(SNAPSHOTS, Word.STATE, WorkerState.ABSENT)
    assert said() == (
        "not ready; missed_reject, until it is reset; 1 of 2 cameras up (side frozen); "
        "without recipe: side; being restarted: snapshots"
    )
    board.write(SUPERVISOR, Word.STOPPING, 1)
    assert said() == "stopping"
    board.close()


def test_the_watchdog_starves_only_when_the_supervisor_can_not_help_itself(tmp_path: Path) -> None:
    """A process that sleeps stands for a worker: alive, and it keeps no promise."""
    line, clock = settings(tmp_path), Clock()
    policy = RestartPolicy()
    make_data(line)
    supervisor = Supervisor(line, policy, clock=clock, manager=Notifier({}))
    make_runtime(supervisor.folder)
    board = board_of(line, supervisor.folder)
    worker = SupervisedWorker(SCORING, "monitor.scoring")
    board.write(SCORING, Word.PROMISE_NS, clock.now + S)
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        worker.process = process
        assert supervisor.within_budget(board, worker)
        clock.now += int((1 + policy.grace_s) * S) + S
        assert supervisor.within_budget(board, worker), "overdue, but to be killed at the next look"
        worker.killed_at_ns = clock.now
        board.write(SCORING, Word.PROMISE_NS, clock.now + 100 * S)
        clock.now += int(policy.overdue_s * S) - 1
        assert supervisor.within_budget(board, worker), "it may take a moment to die"
        clock.now += 2
        assert not supervisor.within_budget(board, worker), "killed, and does not die"
        process.kill()
    worker.process, worker.killed_at_ns, worker.start_at_ns = None, 0, clock.now + int(policy.failing_s * S)
    assert supervisor.within_budget(board, worker), "a worker that keeps dying is waited for in patience"
    board.close()
