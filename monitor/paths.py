"""Where a line's files lie: the data folder's parts, the runtime directory, the lock.

The runtime directory holds rings, the board and sockets; it is private to the user and made anew by every
start. It must never be shared between two lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType

from monitor.errors import LineMonitorError
from monitor.names import check_name
from monitor.settings import Settings

_LONGEST_SOCKET_PATH = 107
"""sockaddr_un holds 108 bytes with the closing zero (unix(7))."""
_LONGEST_SOCKET_NAME = "snapshots.ipc"


class PlaceError(LineMonitorError):
    """A place can't be used; one line says which and the fix."""


def recipes(settings: Settings) -> Path:
    return settings.line.data / "recipes"


def recipe(settings: Settings, name: str) -> Path:
    """The folder of one recipe. Raises InvalidNameError for a name that could lead elsewhere."""
    return recipes(settings) / check_name(name)


def snapshots(settings: Settings) -> Path:
    return settings.line.data / "snapshots"


def changeovers(settings: Settings) -> Path:
    return settings.line.data / "changeovers"


def latch(settings: Settings) -> Path:
    return settings.line.data / "latch.json"


def teachers(settings: Settings) -> Path:
    return settings.line.data / "teachers"


def journal(settings: Settings) -> Path:
    return settings.line.data / "journal.sqlite"


def runtime(settings: Settings) -> Path:
    """The line's runtime directory: in $RUNTIME_DIRECTORY (systemd), else in $XDG_RUNTIME_DIR, else below
    the data folder, else, where that path is too long for a socket's name, in the temporary directory."""
    identity = hashlib.sha256(str(settings.line.data).encode()).hexdigest()[:8]
    name = f"{settings.line.site}-{settings.line.name}-{identity}"
    candidates = [settings.line.data / ".line-monitor-run"]
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.insert(0, Path(user) / "line-monitor" / name)
    if service := os.environ.get("RUNTIME_DIRECTORY"):
        candidates.insert(0, Path(service.split(":")[0]) / name)
    for place in candidates:
        if len(os.fsencode(place / _LONGEST_SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
            return place
    return Path(tempfile.gettempdir()) / f"line-monitor-{os.getuid()}-{identity}"


_OURS = ("board", "board.new", "*.ring", "*.ring.new", "*.pixels", "*.pixels.new", "*.ipc")


def make_runtime(place: Path) -> None:
    """An empty private directory at that place; what a killed run left there goes, and nothing else."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink() or (place.exists() and place.stat().st_uid != os.getuid()):
            raise PlaceError(f"{place} belongs to somebody else: remove it, or set RUNTIME_DIRECTORY")
        remove_runtime(place)
        if place.exists():
            raise PlaceError(
                f"{place} holds files that are not ours: move them away, or set RUNTIME_DIRECTORY"
            )
        place.mkdir(mode=0o700)
    except OSError as error:
        raise PlaceError(
            f"can't make the runtime directory {place}: {error.strerror}; set RUNTIME_DIRECTORY"
        ) from error
    if stat.S_IMODE(place.stat().st_mode) != 0o700:
        place.chmod(0o700)


def remove_runtime(place: Path) -> None:
    """Removes what this program puts there, and the directory if that was all."""
    if not place.is_dir():
        return
    for file in list(place.iterdir()):
        if any(file.match(pattern) for pattern in _OURS):
            file.unlink(missing_ok=True)
    if not any(place.iterdir()):
        place.rmdir()


def make_data(settings: Settings) -> None:
    """Makes the data folder where it is missing. Raises PlaceError."""
    try:
        settings.line.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlaceError(
            f"can't make line.data {settings.line.data}: {error.strerror}; "
            "make it and give it to this user, or set line.data elsewhere"
        ) from error


class DataLock:
    """The lock that makes one service the owner of one data folder; the kernel frees it with its holder."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.line.data / ".lock"
        self._handle: int | None = None

    def __enter__(self) -> DataLock:
        try:
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PlaceError(f"can't write to line.data {self._file.parent}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            os.close(handle)
            raise PlaceError(
                f"another line-monitor{f' (pid {holder})' if holder else ''} already runs on "
                f"{self._file.parent}: stop it first, or give this line a data folder of its own"
            ) from None
        # Who holds it is for the message alone: a full disk must not keep a line from starting.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
