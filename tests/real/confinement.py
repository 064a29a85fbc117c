"""Reports what the confinement of a service keeps from it, run inside the service: one JSON object on stdout.

It runs with the machine's own Python, so it imports nothing of the project. It must change nothing outside
its own folder: each call has arguments that no kernel accepts, and the kind of error shows whether the call
was filtered.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_USER_NAMESPACE = 0x10000000
_NO_RANDOM_ADDRESSES = 0x0040000
_FIFO = 1


def _filtered(call: Callable[[], int]) -> bool:
    ctypes.set_errno(0)
    return call() == -1 and ctypes.get_errno() == errno.EPERM


def _family_filtered() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno == errno.EAFNOSUPPORT
    return False


def _setuid_refused(folder: Path) -> bool:
    file = folder / "set-user-id"
    file.touch()
    try:
        file.chmod(0o4755)
    except PermissionError:
        return True
    finally:
        file.unlink()
    return False


def _read_only(place: str) -> bool:
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def _control_groups() -> str:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(place for _, place, kind, *_ in mounts if kind == "cgroup2")


def list_restrictions(folder: Path, in_tmp: Path) -> dict[str, bool]:
    """By directive of the unit, whether it works. `folder` is the service's own; `in_tmp` is in the host's
    /tmp."""
    return {
        "RestrictAddressFamilies": _family_filtered(),
        "RestrictSUIDSGID": _setuid_refused(folder),
        "RestrictRealtime": _filtered(lambda: int(_LIBC.sched_setscheduler(0, _FIFO, None))),
        "LockPersonality": _filtered(lambda: int(_LIBC.personality(ctypes.c_ulong(_NO_RANDOM_ADDRESSES)))),
        "ProtectClock": _filtered(lambda: int(_LIBC.adjtimex(None))),
        "SystemCallFilter": _filtered(lambda: int(_LIBC.chroot(None))),
        "ProtectProc": not Path("/proc/1").exists(),
        "ProtectKernelTunables": _read_only("/proc/sys"),
        "ProtectControlGroups": _read_only(_control_groups()),
        "ProtectSystem": _read_only("/usr") and _read_only("/etc"),
        "PrivateUsers": Path("/proc/self/uid_map").read_text().split() != ["0", "0", str(2**32 - 1)],
        "PrivateTmp": not in_tmp.exists(),
        # This comes last: if the call is allowed, the program is in another user namespace afterwards.
        "RestrictNamespaces": _filtered(lambda: int(_LIBC.unshare(_NEW_USER_NAMESPACE))),
    }


if __name__ == "__main__":
    json.dump(list_restrictions(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
