"""A separate machine for tests: systemd is its first process, and it has its own /etc, /opt, /usr/local,
/var, /run and /srv. It shares the network, /tmp and the packages of the host.

It needs root and a kernel that allows namespaces; otherwise it raises `MachineError` with the reason. It
starts no unit of the host, only the few targets that services depend on, the journal, and what a test
installs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

_SYSTEMD = Path("/lib/systemd/systemd")
_TARGETS = ("sysinit", "basic", "multi-user", "shutdown", "network-online", "time-sync", "default")
_UNITS = "/run/units:/etc/systemd/system:/usr/local/lib/systemd/system"
_START = """
set -e
mount --make-rprivate /
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/lock /run/units
for target in {targets}; do
    printf '[Unit]\\nDefaultDependencies=no\\n' >/run/units/$target.target
done
for unit in systemd-journald.service systemd-journald.socket; do
    ln -s /lib/systemd/system/$unit /run/units/$unit
done
mkdir /run/units/default.target.wants
ln -s /lib/systemd/system/systemd-journald.socket /run/units/default.target.wants/
umount -R /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount --bind {place}/etc /etc
mount --bind {place}/opt /opt
mount --bind {place}/usr-local /usr/local
mount --bind {place}/var /var
mount -t tmpfs -o mode=755 tmpfs /srv
{lend}
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_UNIT_PATH={units} {systemd} --system
"""
_LEND = """
mkdir {inside}
mount --bind {outside} {inside}
mount -o remount,bind,ro {inside}
"""


class MachineError(Exception):
    """The machine can't be started here. The message is the reason."""


class Machine:
    """`with Machine(folder) as machine:` boots it; `machine.run` runs a command in it.

    `lent` maps paths below /srv to folders of the host. A service that has its own /tmp and /home can read
    them there.
    """

    def __init__(self, place: Path, lent: Mapping[str, Path]) -> None:
        self._place, self._lent = place, lent
        self._first = 0
        self._outer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Machine:
        if os.geteuid() != 0:
            raise MachineError("namespaces and mounts need root")
        if not _SYSTEMD.exists():
            raise MachineError("systemd is missing: apt-get install systemd (deploy/test.sh does)")
        self._lay_out()
        script = _START.format(
            targets=" ".join(_TARGETS),
            place=self._place,
            units=_UNITS,
            systemd=_SYSTEMD,
            lend="".join(
                _LEND.format(inside=inside, outside=outside) for inside, outside in self._lent.items()
            ),
        )
        self._log = self._place / "console.log"
        with self._log.open("wb") as out:
            self._outer = subprocess.Popen(
                ["unshare", "-m", "-p", "-f", "-C", "--kill-child", "bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        until = time.monotonic() + 20
        while time.monotonic() < until and self._outer.poll() is None:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if children:
                self._first = int(children[0])
                if self.run("systemctl", "is-system-running", check=False).stdout.strip() == "running":
                    return self
            time.sleep(0.1)
        said = self._log.read_text(errors="replace")
        self._end()
        raise MachineError(f"systemd can't be booted here: {said.strip() or 'it did not come up'}")

    def _lay_out(self) -> None:
        for name in ("opt", "var/tmp", "var/lib", "var/cache", "usr-local/bin", "usr-local/lib"):
            (self._place / name).mkdir(parents=True)
        (self._place / "var/tmp").chmod(0o1777)
        # The service's user must be able to read all parent folders.
        for folder in (self._place, self._place / "opt", self._place / "var"):
            folder.chmod(0o755)
        shutil.copytree("/etc", self._place / "etc", symlinks=True)
        shutil.rmtree(self._place / "etc/systemd/system", ignore_errors=True)

    def run(
        self, *command: str | Path, check: bool = True, within_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            ["nsenter", "-t", str(self._first), "-m", "-p", *map(str, command)],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_UNIT_PATH": _UNITS},
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )
        if check and result.returncode:
            said = f"{result.stdout}{result.stderr}"
            raise AssertionError(f"{' '.join(map(str, command))} ended with {result.returncode}:\n{said}")
        return result

    def shows(self, unit: str, *names: str) -> dict[str, str]:
        """The properties of a unit, by name."""
        said = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    def path(self, inside: str) -> Path:
        """The path on the host of a file below /etc, /opt, /var or /usr/local of the machine."""
        return self._place / inside.removeprefix("/").replace("usr/local", "usr-local", 1)

    def _end(self) -> None:
        if self._outer is not None:
            # The end of the first process in a pid namespace ends all others.
            self._outer.kill()
            self._outer.wait()
            self._outer = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.run("journalctl", "--no-pager", "-n", "60", check=False).stdout)
        self._end()
