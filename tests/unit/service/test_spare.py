"""A spare process takes over at once, and never outlives its supervisor."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.line_state.board import Field
from monitor.line_state.worker_process import PUBLISH
from monitor.service.child_process import start_process
from monitor.service.spare import Spare
from monitor.system.process_state import is_stopped
from tests.unit.publish.scene import Scene

S = 1_000_000_000
MODULE = "monitor.no_such_worker"
"""Its process ends at once with an error."""
LOG = logging.getLogger("spare")
PUBLISHER = "monitor.publish"


@pytest.fixture
def spare() -> Iterator[Spare]:
    made = Spare(PUBLISHER, LOG)
    yield made
    made.close()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_spare_is_handed_out_once_and_the_next_one_is_started_later(spare: Spare) -> None:
    assert spare.take(0) is None, "there is none yet"
    spare.step(10 * S)
    wait_until(spare.has_imported)
    taken = spare.take(11 * S)
    assert taken is not None
    for number in (signal.SIGHUP, signal.SIGINT):
        taken.send_signal(number)  # as they may reach all processes of the line
    spare.step(12 * S)
    assert spare.take(12 * S) is None, "the publisher that has just started needs the processor"
    spare.step(15 * S)
    wait_until(spare.has_imported)
    other = spare.take(15 * S)
    assert other is not None
    assert taken.poll() is None
    for process in (taken, other):
        process.kill()
        process.communicate()


def test_a_spare_that_a_signal_has_stopped_is_ended_and_not_handed_out(spare: Spare) -> None:
    spare.step(0)
    wait_until(spare.has_imported)
    process = spare._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: is_stopped(process.pid))
    assert spare.take(S) is None
    assert process.returncode == -signal.SIGKILL


def test_spares_that_keep_dying_are_said_once_and_tried_ever_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spare, starts = Spare(MODULE, LOG), []
    for tick in range(200):
        spare.step(tick * S)
        if spare._process is not None and spare._process.returncode is None:
            starts.append(tick)
            spare._process.communicate()
    assert spare.take(200 * S) is None
    assert [after - before for before, after in itertools.pairwise(starts)] == [4, 7, 13, 25, 49, 61]
    (line,) = caplog.messages
    assert line.startswith("the spare process of monitor.no_such_worker ended with exit code 1; until")
    spare.close()


def test_a_spare_that_was_started_a_moment_ago_takes_over_in_the_midst_of_its_imports(
    tmp_path: Path, spare: Spare
) -> None:
    scene = Scene(tmp_path)
    scene.end()
    spare.step(0)
    assert not spare.has_imported()
    process = spare.take(S)
    assert process is not None
    assert process.stdin is not None
    process.stdin.write(scene.post.to_json())
    process.stdin.close()
    wait_until(lambda: bool(scene.board.read(PUBLISH, Field.EVER_RAN)))
    process.terminate()
    assert process.wait(10) == 0


def test_a_spare_that_dies_after_a_long_life_is_replaced_soon(
    spare: Spare, caplog: pytest.LogCaptureFixture
) -> None:
    for now in (0, 1000):
        spare.step(now * S)
        wait_until(spare.has_imported)
        process = spare._process
        assert process is not None
        process.kill()
        process.wait()
        spare.step((now + 900) * S)
    assert len(caplog.messages) == 2
    assert "ended by signal 9" in caplog.messages[1]
    spare.step(1904 * S)
    assert spare._process is not None


def test_a_spare_that_hangs_in_an_import_is_never_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hanging").mkdir()
    (tmp_path / "hanging" / "__init__.py").touch()
    (tmp_path / "hanging" / "worker.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    spare = Spare("hanging", LOG)
    spare.step(0)
    hanging = spare._process
    assert hanging is not None
    time.sleep(0.3)
    assert spare.is_ready(4 * S), "a new process would be no further"
    assert not spare.is_ready(6 * S)
    assert spare.take(6 * S) is None
    assert hanging.returncode == -signal.SIGKILL
    spare.step(8 * S)
    hanging = spare._process
    assert hanging is not None
    spare.step(127 * S)
    assert not caplog.messages
    spare.step(129 * S)
    assert hanging.returncode == -signal.SIGKILL
    assert "was not ready after 120 s and is ended" in caplog.text


def test_a_spare_that_is_not_needed_is_ended(spare: Spare) -> None:
    spare.step(0)
    process = spare._process
    assert process is not None
    spare.close()
    assert process.returncode == -signal.SIGKILL
    assert spare.take(S) is None


def test_a_spare_ends_by_itself_and_quietly_when_its_supervisor_has_gone() -> None:
    report, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "monitor.service.spare"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SPARE_OF": PUBLISHER, "SPARE_REPORTS_TO": str(theirs)},
        pass_fds=(theirs,),
    ) as process:
        os.close(theirs)
        os.close(report)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, b"")


def test_a_spare_has_the_workers_name_only_once_it_is_the_worker(tmp_path: Path, spare: Spare) -> None:
    """So whoever looks for the publisher in the list of processes finds exactly one."""
    scene = Scene(tmp_path)
    scene.end()
    spare.step(0)
    wait_until(spare.has_imported)
    process = spare.take(S)
    assert process is not None
    assert process.stdin is not None

    def command() -> str:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()

    wait_until(lambda: command().endswith("-P -m monitor.service.spare"))
    process.stdin.write(scene.post.to_json())
    process.stdin.close()
    wait_until(lambda: bool(scene.board.read(PUBLISH, Field.EVER_RAN)))
    assert command().endswith("-P -m monitor.publish")
    assert scene.board.read(PUBLISH, Field.PID) == process.pid
    process.terminate()
    assert process.wait(10) == 0


def test_a_worker_never_gets_the_services_secrets_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LINE_MONITOR__MQTT__PASSWORD", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "1")
    with start_process(PUBLISHER) as process:
        environment = Path(f"/proc/{process.pid}/environ")
        # The kernel shows it a moment after the start.
        wait_until(lambda: bool(environment.read_bytes()))
        given = environment.read_bytes().split(b"\0")
        process.kill()
    assert any(entry.startswith(b"PATH=") for entry in given)
    private = (b"LINE_MONITOR__", b"CREDENTIALS_DIRECTORY", b"NOTIFY_SOCKET", b"WATCHDOG_")
    assert not any(entry.startswith(private) for entry in given)
