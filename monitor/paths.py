"""Where a line's files lie: the parts of the data folder, the runtime directory and the lock.

It knows nothing of what is in the files. The runtime directory holds the rings, the board and the sockets. It
is private to the user, and every start makes it anew. Two lines must never share one.
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
"""In bytes: sockaddr_un holds 108 with the zero byte at the end (unix(7))."""
_LONGEST_SOCKET_NAME = "snapshots.ipc"


class PathError(LineMonitorError):
    """A file or folder can't be used. The message is one line that names it and the fix."""


def recipes(settings: Settings) -> Path:
    return settings.line.data / "recipes"


def recipe(settings: Settings, name: str) -> Path:
    """The folder of one recipe. Raises InvalidNameError for a name that could lead to another folder."""
    return recipes(settings) / check_name(name)


def snapshots(settings: Settings) -> Path:
    return settings.line.data / "snapshots"


def teaching(settings: Settings) -> Path:
    """The folder of the pictures that people collect on the page, by recipe."""
    return settings.line.data / "teaching"


def changeovers(settings: Settings) -> Path:
    return settings.line.data / "changeovers"


def latch(settings: Settings) -> Path:
    return settings.line.data / "latch.json"


def challenge(settings: Settings) -> Path:
    return settings.line.data / "challenge.json"


def audit(settings: Settings) -> Path:
    return settings.line.data / "audit.jsonl"


def accounts(settings: Settings) -> Path:
    return settings.line.data / settings.review.accounts


def teachers(settings: Settings) -> Path:
    return settings.line.data / "teachers"


def journal(settings: Settings) -> Path:
    return settings.line.data / "journal.sqlite"


def runtime(settings: Settings) -> Path:
    """The line's runtime directory, the first of these whose path is short enough for a socket's name: in
    $RUNTIME_DIRECTORY (systemd), in $XDG_RUNTIME_DIR, below the data folder, in the temporary directory."""
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


def cache(fallback: Path) -> Path:
    """The folder of files that can be made anew: in systemd's CacheDirectory, in $XDG_CACHE_HOME, else
    `fallback`."""
    if service := os.environ.get("CACHE_DIRECTORY"):
        return Path(service.split(":")[0])
    if user := os.environ.get("XDG_CACHE_HOME"):
        return Path(user) / "line-monitor"
    return fallback


def line_cache(settings: Settings) -> Path:
    """The cache folder of a line; below the data folder where the environment names none."""
    return cache(settings.line.data / ".cache")


_OWN_FILES = ("board", "board.new", "*.ring", "*.ring.new", "*.pixels", "*.pixels.new", "*.position", "*.ipc")


def make_runtime(place: Path) -> None:
    """Makes an empty private directory. Deletes the files that a killed run left there, and no others.

    Raises PathError.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink() or (place.exists() and place.stat().st_uid != os.getuid()):
            raise PathError(f"{place} belongs to another user: remove it, or set RUNTIME_DIRECTORY")
        remove_runtime(place)
        if place.exists():
            raise PathError(
                f"{place} holds files of another program: move them away, or set RUNTIME_DIRECTORY"
            )
        place.mkdir(mode=0o700)
    except OSError as error:
        raise PathError(
            f"can't make the runtime directory {place}: {error.strerror}; set RUNTIME_DIRECTORY"
        ) from error
    if stat.S_IMODE(place.stat().st_mode) != 0o700:
        place.chmod(0o700)


def remove_runtime(place: Path) -> None:
    """Deletes the files that this program makes there, and the directory when nothing else is left in it."""
    if not place.is_dir():
        return
    for file in list(place.iterdir()):
        if any(file.match(pattern) for pattern in _OWN_FILES):
            file.unlink(missing_ok=True)
    if not any(place.iterdir()):
        place.rmdir()


def make_data(settings: Settings) -> None:
    """Makes the data folder if it is missing. Raises PathError."""
    try:
        settings.line.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PathError(
            f"can't make line.data {settings.line.data}: {error.strerror}; "
            "make it and give it to this user, or set line.data elsewhere"
        ) from error


class DataLock:
    """The lock that allows only one service per data folder. The kernel frees it when the process ends."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.line.data / ".lock"
        self._handle: int | None = None

    def __enter__(self) -> DataLock:
        try:
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PathError(f"can't write to line.data {self._file.parent}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            os.close(handle)
            raise PathError(
                f"another line-monitor{f' (pid {holder})' if holder else ''} already runs on "
                f"{self._file.parent}: stop it first, or give this line a data folder of its own"
            ) from None
        # The process id is only for the message above: a full disk must not prevent the start of a line.
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
