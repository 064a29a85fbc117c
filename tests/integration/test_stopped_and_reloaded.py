"""A running line replaces a stopped publisher within seconds, and takes over a deadline without a restart."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from monitor.journal.reader import JournalReader
from monitor.line_state.board import Board, Field
from monitor.line_state.worker_process import PUBLISH, worker_names
from tests.real.line import Line
from tests.real.shared_line import DEADLINE_MS, SharedLine


@pytest.mark.timing
def test_a_stopped_publisher_speaks_again_within_3_s(shared_line: SharedLine) -> None:
    line = shared_line
    board = Board(line.folder / "board", worker_names(line.settings))
    restarts = board.read(PUBLISH, Field.RESTARTS)
    stopped, at = line.pid(PUBLISH), time.monotonic()
    os.kill(stopped, signal.SIGSTOP)
    line.wait_for(lambda: "worker publish was stopped by a signal" in line.said(), 5, "notice")
    noticed = time.monotonic()
    assert noticed - at < 1.0
    line.wait_for(lambda: not Path(f"/proc/{stopped}").exists(), 2, "end of the stopped process")
    line.wait_for(lambda: bool(line.witness.heard("heartbeat", since=noticed)), 5, "heartbeat")
    assert line.witness.heard("heartbeat", since=noticed)[0].at - noticed < 2.0
    assert board.read(PUBLISH, Field.RESTARTS) == restarts + 1
    board.close()
    line.witness.say("reset")
    line.await_ready(5)


@pytest.mark.timing
def test_a_new_deadline_counts_at_once(shared_line: SharedLine) -> None:
    line = shared_line
    ring = line.ring("top")
    workers = ("scoring", "capture-top", "snapshots", PUBLISH)
    pids = [line.pid(worker) for worker in workers]
    for pid in pids:
        os.kill(pid, signal.SIGHUP)  # as `systemctl kill -s HUP` does, and a program that rotates logs

    def reload(settings: str, said: str) -> int:
        """Returns the number of the newest frame when the log has the line."""
        line.config.write_text(settings)
        line.process.send_signal(signal.SIGHUP)
        line.wait_for(lambda: said in line.said(), 5, said)
        return ring.last_frame()

    def deadline_ms(number: int) -> float:
        line.wait_for(lambda: ring.last_frame() >= number, 5, "frame")
        frame = ring.frame(number)
        assert frame is not None
        return (frame.deadline_ns - frame.captured_ns) / 1e6

    before, deadline = line.config.read_text(), f"deadline_ms = {DEADLINE_MS}"
    assert deadline_ms(ring.last_frame()) == DEADLINE_MS
    number = reload(before.replace(deadline, "deadline_ms = 900"), f"deadline_ms {DEADLINE_MS} -> 900")
    assert deadline_ms(number + 2) == 900
    number = reload(before.replace(deadline, "deadline_ms = 'soon'"), "settings not reloaded")
    assert deadline_ms(number + 2) == 900
    other_port = before.replace("[mqtt]\n", "[mqtt]\nkeepalive_s = 9\n")
    number = reload(other_port, "mqtt.keepalive_s can't be changed while the line runs: restart")
    assert deadline_ms(number + 2) == DEADLINE_MS
    assert pids == [line.pid(worker) for worker in workers]
    wanted = ("camera.top.deadline_ms", "900", str(DEADLINE_MS))
    line.wait_for(lambda: wanted in recorded_changes(line), 5, "record of the change")


def recorded_changes(line: Line) -> list[tuple[str, str | None, str | None]]:
    with JournalReader(line.settings.line.data / "journal.sqlite") as reader:
        return [(change.what, change.old, change.new) for change in reader.changes()]
