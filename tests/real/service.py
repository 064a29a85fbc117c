"""The service on a separate machine, installed with the handbook's commands; its broker runs outside."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.real import bundle, handbook, parts_folder
from tests.real.line import Witness
from tests.real.machine import Machine
from tests.real.mosquitto import Mosquitto
from tests.real.port import free_port

UNIT = "line-monitor.service"
PACKAGES = "/srv/packages"
"""The path in the machine of the folder `bundle.PACKAGES`."""
PASSWORD = "of-the-broker"
_REVIEW_PASSWORD = "for the page"


def wait_for(condition: Callable[[], bool], within_s: float, what: str) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within_s, f"no {what} within {within_s} s"
        time.sleep(0.1)


@dataclass
class Service:
    """The machine with the running service, and the witness of its messages."""

    machine: Machine
    witness: Witness
    carried: Path
    metrics_port: int
    review_port: int

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

    def do(self, commands: str, folder: Path | None = None) -> str:
        """Run a block of the handbook as an engineer does. Returns its output."""
        script = f"cd {folder or self.carried}\n{commands}"
        done = self.machine.run("bash", "-ec", script, within_s=170)
        return done.stdout + done.stderr


def _lend_sudo(machine: Machine) -> None:
    """Make a `sudo` for the machine, where every user is root: it only changes the user."""
    sudo = machine.path("/usr/local/bin/sudo")
    sudo.write_text(
        '#!/bin/sh\nif [ "$1" = -u ]; then user=$2; shift 2; exec runuser -u "$user" -- "$@"; fi\nexec "$@"\n'
    )
    sudo.chmod(0o755)


@contextlib.contextmanager
def running(place: Path, trained: Path, carried: Path) -> Iterator[Service]:
    """An installed service that inspects parts with one camera, `top`. Raises MachineError if it can't be
    started."""
    # Mosquitto drops root rights before it reads this file, and pytest's folders are private.
    with tempfile.NamedTemporaryFile(prefix="passwords-", delete=False) as made:
        passwords = Path(made.name)
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "line1", PASSWORD], check=True)
    passwords.chmod(0o644)
    lent = {PACKAGES: bundle.PACKAGES}
    with Machine(place, lent) as machine, Mosquitto(extra=f"password_file {passwords}") as broker:
        _lend_sudo(machine)
        witness = Witness(broker.port, "plant/line")
        service = Service(machine, witness, carried, free_port(), free_port())
        service.do(handbook.block("install", {"install.sh": f"install.sh --packages {PACKAGES}"}))
        data = machine.path("/var/lib/line-monitor")
        shutil.copytree(trained, data / "recipes/plate")
        parts_folder.write_parts(data / "parts", 10, bad_every=5)
        machine.path("/etc/line-monitor/line.toml").write_text(
            '[line]\nsite = "plant"\nname = "line"\n[[camera]]\nname = "top"\nrecipe = "plate"\n'
            'source = "folder:///var/lib/line-monitor/parts?fps=5&loop=1"\ndeadline_ms = 1000\n'
            f'[mqtt]\nport = {broker.port}\nusername = "line1"\n'
            f"[metrics]\nport = {service.metrics_port}\n[snapshots]\nmin_free_gb = 0.0\n"
            f'[review]\nhost = "0.0.0.0"\nport = {service.review_port}\n'
        )
        typed = {
            'systemd-ask-password "Password of line1 at the broker:"': f"echo {PASSWORD}",
            "line-monitor review": f"echo {_REVIEW_PASSWORD} | line-monitor review",
        }
        service.do(handbook.block("secrets", typed))
        machine.run("chown", "-R", "line-monitor:", "/var/lib/line-monitor")
        said = service.do(handbook.block("start", {}))
        assert "FAIL" not in said, said
        wait_for(lambda: service.ready_since(0), 60, "ready line")
        yield service
        witness.close()
    passwords.unlink()
