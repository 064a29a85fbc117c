"""A library's lines on stderr are captured, and the lines of other writers are not lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drivers.stderr_capture import overheard

THEIRS = re.compile(r"libfoo: ")


def test_theirs_are_heard_and_all_else_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with overheard(THEIRS) as heard:
        os.write(2, b"libfoo: bad\nours: fine\nlibfoo: worse\nnot libfoo: \n\rhalf a li")
        os.write(2, b"ne")
    assert heard == ["libfoo: bad", "libfoo: worse"]
    assert capfd.readouterr().err == "ours: fine\nnot libfoo: \n\rhalf a line"
    os.write(2, b"libfoo: later\n")
    assert capfd.readouterr().err == "libfoo: later\n"


def test_a_failure_inside_leaves_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with overheard(THEIRS):
            os.write(2, b"a traceback's first line\n")
            raise ValueError("inside")

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ValueError, match="inside"):
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "a traceback's first line\nafter\n"
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_who_writes_more_than_can_be_heard_does_not_wait(capfd: pytest.CaptureFixture[str]) -> None:
    with overheard(THEIRS) as heard:
        subprocess.run(["sh", "-c", "yes 'libfoo: bad' | head -c 3000000 >&2"], timeout=60, check=False)
    assert len(heard) > 1000
    assert set(heard[:-1]) == {"libfoo: bad"}
    assert "libfoo: bad" not in capfd.readouterr().err


def test_a_program_that_was_started_meanwhile_is_not_waited_for() -> None:
    with overheard(THEIRS) as heard:
        other = subprocess.Popen(["sleep", "60"])
        os.write(2, b"libfoo: bad\n")
    assert other.poll() is None
    assert heard == ["libfoo: bad"]
    other.kill()
    other.wait()


def test_threads_hear_their_own_library_alone(capfd: pytest.CaptureFixture[str]) -> None:
    wrong: list[list[str]] = []
    stop = threading.Event()

    def listen(name: str) -> None:
        for _ in range(300):
            with overheard(THEIRS) as heard:
                os.write(2, f"libfoo: {name}\n".encode())
            if heard != [f"libfoo: {name}"]:
                wrong.append(heard)

    def talk() -> None:
        while not stop.wait(0.001):
            os.write(2, b"ours: fine\n")
            said.append(1)

    said: list[int] = []
    listeners = [threading.Thread(target=listen, args=(name,)) for name in "abc"]
    talker = threading.Thread(target=talk)
    for thread in (talker, *listeners):
        thread.start()
    for thread in listeners:
        thread.join()
    stop.set()
    talker.join()
    assert wrong == []
    assert capfd.readouterr().err == "ours: fine\n" * len(said)
    assert said


def test_a_program_without_stderr_hears_as_well() -> None:
    program = """
import os, re
os.close(2)
from drivers.stderr_capture import overheard
with overheard(re.compile("libfoo")) as heard:
    os.write(2, b"libfoo: bad\\nours: lost\\n")
print(heard, end="")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['libfoo: bad']"


def test_a_full_stderr_that_nobody_reads_blocks_nobody() -> None:
    """A worker's log goes to a pipe: if its reader hangs, frames must still be captured."""
    program = """
import os, re
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    pass
os.set_blocking(2, True)
from drivers.stderr_capture import overheard
with overheard(re.compile("libfoo")):
    os.write(2, b"ours: lost\\n")
os.write(1, b"went on")
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as done:
        assert done.stdout is not None
        try:
            done.wait(30)
            assert done.stdout.read() == b"went on"
        finally:
            done.kill()
