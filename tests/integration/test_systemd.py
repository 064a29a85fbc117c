"""The shipped service under a real systemd: installed as by an engineer, started, hurt, stopped, removed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real import bundle, parts_folder
from tests.real.line import Witness
from tests.real.machine import Machine, MachineError
from tests.real.mosquitto import Mosquitto

UNIT = "line-monitor.service"
# Making the bundle and installing it on a busy machine; each wait below has its own bound.
pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]


@dataclass
class Installed:
    """The machine with the running service, and what hears it."""

    machine: Machine
    witness: Witness
    carried: Path

    def pid(self, worker: str) -> str:
        return self.machine.run("pgrep", "--full", "--", f"-m monitor[.]{worker}").stdout.strip()

    def shows(self, name: str) -> str:
        return self.machine.shows(UNIT, name)[name]

    def ready_since(self, moment: float) -> bool:
        said = self.witness.heard("status", since=moment)
        return bool(said) and said[-1].payload["ready"] is True

    def journal(self) -> list[dict[str, str]]:
        said = self.machine.run("journalctl", "--unit", UNIT, "--output", "json").stdout
        return [json.loads(line) for line in said.splitlines()]


def wait_for(condition: Callable[[], bool], within_s: float, what: str) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within_s, f"no {what} within {within_s} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, trained: Path, carried: Path) -> Iterator[Installed]:
    place = tmp_path_factory.mktemp("systemd")
    # Mosquitto gives up root and then reads this: pytest's own folders are private.
    with tempfile.NamedTemporaryFile(prefix="passwords-", delete=False) as made:
        passwords = Path(made.name)
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "line1", "of-the-broker"], check=True)
    passwords.chmod(0o644)
    try:
        booted = Machine(place / "machine").__enter__()
    except MachineError as error:
        pytest.skip(str(error))
    with Mosquitto(extra=f"password_file {passwords}") as broker:
        try:
            booted.run("bash", carried / "deploy/install.sh", "--packages", bundle.PACKAGES, within_s=150)
            data = booted.path("/var/lib/line-monitor")
            shutil.copytree(trained, data / "recipes/plate")
            parts_folder.write_parts(data / "parts", 10, bad_every=5)
            booted.path("/etc/line-monitor/line.toml").write_text(
                '[line]\nsite = "plant"\nname = "line"\n[[camera]]\nname = "top"\nrecipe = "plate"\n'
                'source = "folder:///var/lib/line-monitor/parts?fps=5&loop=1"\ndeadline_ms = 1000\n'
                f'[mqtt]\nport = {broker.port}\nusername = "line1"\n'
                "[metrics]\nport = 0\n[review]\nport = 0\n[snapshots]\nmin_free_gb = 0.0\n"
            )
            booted.path("/etc/line-monitor/mqtt_password").write_text("of-the-broker\n")
            booted.path("/etc/line-monitor/mqtt_password").chmod(0o600)
            booted.run("chown", "-R", "line-monitor:", "/var/lib/line-monitor")
            witness = Witness(broker.port, "plant/line")
            booted.run("systemctl", "start", UNIT)
            line = Installed(booted, witness, carried)
            wait_for(lambda: line.ready_since(0), 60, "ready line")
            yield line
            witness.close()
        except BaseException as error:
            booted.__exit__(type(error), error, None)
            raise
        booted.__exit__(None, None, None)
    passwords.unlink()


def test_it_is_up_when_its_recipes_are_warm_and_says_how_it_is(installed: Installed) -> None:
    """The broker let it in: the password came as a credential, from a file that only root may read."""
    assert installed.shows("ActiveState") == "active"
    wait_for(lambda: installed.shows("StatusText") == "ready; 1 of 1 cameras up", 10, "state in words")
    started = next(i for i, entry in enumerate(installed.journal()) if entry["MESSAGE"].startswith("Started"))
    early = [entry["MESSAGE"] for entry in installed.journal()[:started]]
    assert not any("camera top is up" in message for message in early), "cameras come after"


def test_it_runs_with_nothing_that_it_does_not_need(installed: Installed) -> None:
    main = installed.shows("MainPID")
    status = installed.machine.run("cat", f"/proc/{main}/status").stdout
    rights = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == 0
    assert rights["NoNewPrivs"] == "1"
    assert rights["Seccomp"] == "2"
    assert rights["Uid"].split()[0] != "0"
    inside = ("nsenter", "-t", main, "-m", "-S", rights["Uid"].split()[0])
    for place, allowed in (("/etc", False), ("/opt/line-monitor", False), ("/var/lib/line-monitor", True)):
        done = installed.machine.run(*inside, "touch", f"{place}/probe", check=False)
        assert (done.returncode == 0) is allowed, f"{place}: {done.stderr}"
    assert installed.machine.run(*inside, "ls", "/root", check=False).returncode != 0
    environment = installed.machine.run("cat", f"/proc/{main}/environ").stdout
    assert "of-the-broker" not in environment


def test_a_stuck_scorer_is_replaced_and_the_service_stays(installed: Installed) -> None:
    main, scorer, since = installed.shows("MainPID"), installed.pid("scoring"), time.monotonic()
    installed.machine.run("kill", "-STOP", scorer)
    wait_for(
        lambda: not installed.ready_since(since) and bool(installed.witness.heard("status", since)),
        20,
        "loss",
    )
    wait_for(lambda: installed.ready_since(since), 60, "new scorer")
    assert installed.pid("scoring") != scorer
    assert installed.shows("MainPID") == main
    assert installed.shows("NRestarts") == "0"


def test_what_it_logs_has_levels_and_is_one_line_an_event(installed: Installed) -> None:
    ours = [entry for entry in installed.journal() if entry.get("_TRANSPORT") == "stdout"]
    assert not [entry for entry in ours if entry["MESSAGE"].startswith("<")], "levels are taken, not shown"
    levels = {"CRITICAL": "2", "ERROR": "3", "WARNING": "4", "INFO": "6"}
    assert ours
    for entry in ours:
        assert entry["PRIORITY"] == levels[entry["MESSAGE"].split()[0]], entry["MESSAGE"]
        assert "Traceback" not in entry["MESSAGE"]


def test_a_stuck_supervisor_gets_the_service_restarted(installed: Installed) -> None:
    main, scorer = installed.shows("MainPID"), installed.pid("scoring")
    session = installed.witness.status()["session"]
    restarts, since = int(installed.shows("NRestarts")), time.monotonic()
    installed.machine.run("kill", "-STOP", main)
    wait_for(lambda: int(installed.shows("NRestarts")) == restarts + 1, 30, "restart by the watchdog")
    wait_for(lambda: installed.ready_since(since), 60, "line that is ready again")
    assert installed.witness.status()["session"] != session
    assert installed.shows("MainPID") != main
    assert installed.machine.run("ps", "-p", scorer, check=False).returncode != 0, "no old worker is left"
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in installed.journal())


def test_it_stops_in_order_and_is_removed_without_a_trace(installed: Installed) -> None:
    machine, since = installed.machine, time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    assert time.monotonic() - since < 8
    assert machine.shows(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    wait_for(lambda: installed.witness.status()["state"] == "stopped", 5, "word of the stop")
    assert machine.run("ls", "/run/line-monitor", check=False).returncode != 0
    removed = machine.run("bash", installed.carried / "deploy/install.sh", "--uninstall")
    assert "kept: /var/lib/line-monitor" in removed.stderr
    assert machine.path("/var/lib/line-monitor/recipes/plate/recipe.json").exists()
    assert machine.path("/etc/line-monitor/line.toml").exists()
    assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
    left = machine.run("find", "/opt", "/usr/local", "/etc/systemd", "/var/cache", "-name", "*line-monitor*")
    assert left.stdout == ""
    machine.run("bash", installed.carried / "deploy/install.sh", "--uninstall", "--purge")
    assert machine.run("getent", "passwd", "line-monitor", check=False).returncode != 0
