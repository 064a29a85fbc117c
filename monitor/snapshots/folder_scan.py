"""The sets in the snapshot folder: their names, sizes and times, read slice by slice and held in memory.

It knows nothing of limits or pictures. Other programs may add and delete files at any time, so the folder is
read again every 5 minutes. Only files with the name of a snapshot's file are counted, and no symbolic link is
followed.

A snapshot is a set of files `<day>/<camera>/<stem>.jpg`, `.png` and `.json`. Its key is `<camera>/<stem>`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.names import NAME
from monitor.system.atomic_file import WRITING
from monitor.system.retention_clock import RetentionClock

DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
CAMERA = re.compile(NAME)
STEM = re.compile(
    rf"(?P<clock>\d{{9}})_{NAME}_(?P<frame>\d{{1,20}})_(?P<score>-?\d+(\.\d+)?(e[+-]\d+)?)", re.ASCII
)
"""The names that `monitor.verdict.snapshot_path` gives, without day, camera and suffix."""
FILE = re.compile(rf"(?P<stem>{STEM.pattern})(?P<suffix>\.jpg|\.png|\.json)", re.ASCII)
SET_WRITING = ".snapshot-"
"""The prefix of temporary names in which the snapshot writer writes a set."""
_OLD_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""The temporary files of earlier versions."""

_RESCAN_NS = 300 * 1_000_000_000
"""The time from one pass over the folder to the next, which finds the changes of other programs."""
_SLICE = 500
"""Directory entries that one `step` looks at: about 5 ms of work."""
_LEFT_OVER_NS = 3600 * 1_000_000_000
"""A temporary file older than this was left by a killed process."""


class SnapshotError(LineMonitorError):
    """The snapshot folder can't be read, written or pruned. The message is one line with the reason and the
    fix."""


def snapshot_error(root: Path, error: OSError) -> SnapshotError:
    """The SnapshotError for an OSError below `root`."""
    place = error.filename if isinstance(error.filename, str) else str(root)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = f"{root}: the disk is full: free some space or lower snapshots.max_gb"
    elif error.errno == errno.EROFS:
        why = f"{root}: the file system is read-only: mount it writable"
    elif error.errno in (errno.EACCES, errno.EPERM):
        why = f"{place}: no permission: let the service's user write there"
    else:
        why = f"{place}: {error.strerror or error}"
    return SnapshotError(f"snapshots: {why}")


@contextlib.contextmanager
def entries(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """A folder's entries; none when the folder does not exist. Raises OSError."""
    try:
        found = os.scandir(folder)
    except FileNotFoundError:
        yield iter(())
        return
    with found:
        yield found


def folders(parent: Path, name: re.Pattern[str]) -> list[str]:
    """The names of the folders in `parent` that match, without symbolic links. Raises OSError."""
    with entries(parent) as found:
        return [e.name for e in found if name.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]


def remove_if_empty(root: Path, day: str, camera: str) -> None:
    """Remove a camera's folder and its day's folder where they are empty."""
    # rmdir fails on a folder that is not empty.
    for folder in (root / day / camera, root / day):
        with contextlib.suppress(OSError):
            folder.rmdir()


def split_path(relative_jpg: str) -> tuple[str, str]:
    """Split `<day>/<camera>/<stem>.jpg` into the day and the key. Raises ValueError for another path."""
    day, camera, name = ([*relative_jpg.split("/"), "", ""])[:3]
    match = FILE.fullmatch(name)
    if (
        relative_jpg.count("/") != 2
        or match is None
        or match["suffix"] != ".jpg"
        or not (DAY.fullmatch(day) and CAMERA.fullmatch(camera))
    ):
        raise ValueError(f"{relative_jpg!r} is not a snapshot's path")
    return day, f"{camera}/{match['stem']}"


def time_of_day(key: str) -> str:
    """A key's time of day, HHMMSSmmm, by which the sets of one day are sorted."""
    return key.partition("/")[2][:9]


@dataclass(slots=True)
class SnapshotSet:
    """What is known of one snapshot's files."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes, by suffix."""
    json_mtime_ns: int = 0
    labelled: bool | None = None
    """Whether the `.json` holds a label; None until it has been read."""

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


_Day = OrderedDict[str, SnapshotSet]
"""One day's sets by key, oldest first."""


class FolderScan:
    """The sets in the folder `root`, as far as they have been read. Only one thread may use it."""

    def __init__(self, root: Path, retention_clock: RetentionClock, monotonic_ns: Callable[[], int]) -> None:
        self.root = root
        self._retention_clock = retention_clock
        self._monotonic_ns = monotonic_ns
        self._days: dict[str, _Day] = {}
        self._bytes = 0
        self._pass: Iterator[None] | None = None
        self._pass_due_ns = monotonic_ns()
        self._error: OSError | None = None
        self._day_in_pass: tuple[str, _Day] | None = None
        """The day that the present pass is reading, with the sets it has found so far."""

    @property
    def total_bytes(self) -> int:
        return self._bytes

    @property
    def count(self) -> int:
        """The number of sets."""
        return sum(len(day) for day in self._days.values())

    @property
    def newest_day(self) -> str:
        """Empty when there is no set."""
        return max(self._days, default="")

    def oldest_first(self) -> Iterator[tuple[str, str]]:
        """The day and key of every set, oldest first. The caller may remove sets meanwhile."""
        for day in sorted(self._days):
            # A copy of one day's keys at a time, since the caller removes sets.
            for key in tuple(self._days.get(day, ())):
                yield day, key

    def get(self, day: str, key: str) -> SnapshotSet | None:
        sets = self._days.get(day)
        return None if sets is None else sets.get(key)

    def add(self, day: str, key: str, written: SnapshotSet) -> None:
        """Add a set that has just been written."""
        self.remove(day, key)
        if day not in self._days:
            self._days[day] = OrderedDict()
        self._days[day][key] = written
        self._bytes += written.bytes
        if self._day_in_pass is not None and self._day_in_pass[0] == day:
            self._day_in_pass[1][key] = written

    def remove(self, day: str, key: str) -> SnapshotSet | None:
        """Remove a set whose files are being deleted. Returns the set, or None if it was not known."""
        known = self._days.get(day, OrderedDict()).pop(key, None)
        if known is not None:
            self._bytes -= known.bytes
            if not self._days[day]:
                del self._days[day]
        if self._day_in_pass is not None and self._day_in_pass[0] == day:
            self._day_in_pass[1].pop(key, None)
        return known

    def step(self) -> bool:
        """Read one slice of the folder where a pass is due: at the start, then every 5 minutes.

        Returns True while the pass has more to read. A pass also deletes temporary files of killed processes
        and empty folders. Raises SnapshotError at the end of a pass that could not read everything.
        """
        if self._pass is None:
            if self._monotonic_ns() < self._pass_due_ns:
                return False
            self._pass = self._read()
            self._pass_due_ns = self._monotonic_ns() + _RESCAN_NS
        try:
            next(self._pass)
        except StopIteration:
            self._pass = None
        except OSError as error:
            self._pass = None
            self._error = error
        if self._pass is not None:
            return True
        unread, self._error = self._error, None
        if unread is not None:
            raise snapshot_error(self.root, unread)
        return False

    def _read(self) -> Iterator[None]:
        """Read the folder a day at a time, oldest first, and replace the stored sets of that day."""
        on_disk = sorted(folders(self.root, DAY))
        for gone in set(self._days) - set(on_disk):
            self._replace(gone, OrderedDict())
        yield
        for day in on_disk:
            fresh: _Day = OrderedDict()
            self._day_in_pass = (day, fresh)
            try:
                for camera in sorted(folders(self.root / day, CAMERA)):
                    yield from self._read_camera(day, camera, fresh)
            except OSError as error:
                # The other days are read nevertheless; `step` raises this error at the end of the pass.
                self._error = error
            self._day_in_pass = None
            before = self._days.get(day, OrderedDict())
            for key, found in fresh.items():
                known = before.get(key)
                if known is not None and known.json_mtime_ns == found.json_mtime_ns:
                    found.labelled = known.labelled
            self._replace(day, OrderedDict(sorted(fresh.items(), key=lambda item: time_of_day(item[0]))))
            yield

    def _read_camera(self, day: str, camera: str, fresh: _Day) -> Iterator[None]:
        folder = self.root / day / camera
        seen = 0
        with entries(folder) as found:
            for entry in found:
                seen += 1
                if seen % _SLICE == 0:
                    yield
                # Another program may delete a file after it was listed and before its size is read.
                with contextlib.suppress(FileNotFoundError):
                    if match := FILE.fullmatch(entry.name):
                        stat = entry.stat(follow_symlinks=False)
                        known = fresh.setdefault(f"{camera}/{match['stem']}", SnapshotSet())
                        known.sizes[match["suffix"]] = stat.st_size
                        if match["suffix"] == ".json":
                            known.json_mtime_ns = stat.st_mtime_ns
                    elif self._is_left_over(entry):
                        Path(entry.path).unlink()
        if seen == 0:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _is_left_over(self, entry: os.DirEntry[str]) -> bool:
        """Whether a killed process left this temporary file; a file that is being written is younger."""
        if entry.name.startswith(SET_WRITING) or _OLD_TEMPORARY.fullmatch(entry.name):
            # The one snapshot writer scans and writes in turns, so no set is being written now.
            return True
        if not entry.name.startswith(WRITING):
            return False
        return self._retention_clock.now_ns() - entry.stat(follow_symlinks=False).st_mtime_ns > _LEFT_OVER_NS

    def _replace(self, day: str, fresh: _Day) -> None:
        before = self._days.pop(day, OrderedDict())
        self._bytes += sum(one.bytes for one in fresh.values()) - sum(one.bytes for one in before.values())
        if fresh:
            self._days[day] = fresh
        else:
            with contextlib.suppress(OSError):
                (self.root / day).rmdir()
