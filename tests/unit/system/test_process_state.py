"""A process that a signal has stopped is told from every other one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitor.system.process_state import is_stopped


def test_a_process_is_stopped_from_sigstop_until_sigcont() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        assert not is_stopped(process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        until = time.monotonic() + 5
        while not is_stopped(process.pid):
            assert time.monotonic() < until
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGCONT)
        while is_stopped(process.pid):
            assert time.monotonic() < until
            time.sleep(0.001)
        process.kill()
    assert not is_stopped(process.pid), "it has ended"


def test_a_busy_process_is_not_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        assert not any(is_stopped(process.pid) for _ in range(1000))
        process.kill()


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        (b"7 (python) T 1 7 7 0", True),
        (b"7 (a (T) b) S 1 7 7 0", False),
        (b"7 (a) R (b) T 1 7 7 0", True),
        (b"7 (python) t 1 7 7 0", False),
        (b"7 (python) D 1 7 7 0", False),
        (b"7 (python) R 1 7 7 0", False),
        (b"7 (python) Z 1 7 7 0", False),
        (b"7 (python) Tx 1 7 7 0", False),
        (b"", False),
    ],
)
def test_the_state_is_read_after_the_programs_name_whatever_that_is(
    stat: bytes, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_bytes(stat)
    assert is_stopped(7, tmp_path) is expected
    assert not is_stopped(8, tmp_path)
