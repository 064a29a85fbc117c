"""The snapshot folder: sets of `.jpg`, `.png` and `.json`, whole or not at all, and how long they stay.

The folder is the truth: what is remembered of it here is only to be quick, and is read again every few
minutes. It must never delete or count what isn't named like a snapshot, nor follow a symbolic link.

Not thread-safe: one thread writes, steps and prunes. No call takes long, so that a writer stays a writer with
100,000 sets in the folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2

from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.settings import SnapshotSettings
from monitor.system.atomic_file import WRITING
from monitor.system.retention_clock import BelievedUtc

GB = 1_000_000_000
RESCAN_NS = 300 * 1_000_000_000
"""How long files that others add or delete may go unnoticed."""
SLICE = 500
"""Directory entries looked at in one `step`, some 5 ms of work."""
SCAN_BUDGET_NS = 200_000_000
"""How long one `prune` reads the folder at most."""
_LEFT_OVER_NS = 3600 * 1_000_000_000
MOST_DELETED = 500
"""Sets that one `prune` deletes at most."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_CAMERA = re.compile(r"[a-z0-9-]{1,32}")
_SNAPSHOT = re.compile(r"(?P<stem>\d{9}_.+)(?P<kind>\.jpg|\.png|\.json)")
_TEMPORARY = re.compile(r"\..+\.(?P<writer>[0-9a-f]{8})\.tmp")

_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 88)
# Level 1 writes a 20 MP frame in a fifth of the default's time, for a few percent more bytes.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class SnapshotError(LineMonitorError):
    """A snapshot could not be written or deleted; the message is one line that says why and what helps."""


@dataclass(slots=True)
class _Set:
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes, by suffix."""
    json_mtime_ns: int = 0
    labelled: bool | None = None
    """None until someone wants to know: it takes reading the JSON."""

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


# `<camera>/<stem>` of one day's sets, oldest first.
_Day = OrderedDict[str, _Set]


class SnapshotFolder:
    """`root` is `snapshots/` below the line's data and need not exist yet. The clocks are in nanoseconds."""

    def __init__(
        self,
        root: Path,
        settings: SnapshotSettings,
        *,
        utc_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._root = root
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._believed = BelievedUtc(utc_ns, monotonic_ns)
        self._writer = secrets.token_hex(4)
        self._days: dict[str, _Day] = {}
        self._bytes = 0
        self._scan: Iterator[None] | None = None
        self._scan_due_ns = monotonic_ns()
        self._complete = False
        self._unread: str | None = None
        self._undeleted: str | None = None
        self._in_scan: tuple[str, _Day] | None = None

    @property
    def total_bytes(self) -> int:
        """What the snapshots take on disk, as far as is known."""
        return self._bytes

    @property
    def count(self) -> int:
        """Sets in the folder, as far as is known."""
        return sum(len(day) for day in self._days.values())

    @property
    def scanned(self) -> bool:
        """False until the folder has been read through once."""
        return self._complete

    def write(self, relative_jpg: str, overlay: Image, frame: Image, payload: dict[str, Any]) -> int:
        """Writes one set and returns its bytes.

        `relative_jpg` comes from `monitor.verdict.snapshot_path`; `overlay` goes into the `.jpg`, `frame`
        (uint8, (H, W, 3) BGR or (H, W)) without loss into the `.png`, and `payload` with `"labels": []` into
        the `.json`, last: where that is, the set is whole. Makes room first where a limit asks for it.
        Raises SnapshotError, leaving nothing of the set behind.
        """
        day, key = _split(relative_jpg)
        record = json.dumps({**payload, "labels": []}, allow_nan=False, indent=1) + "\n"
        contents = {
            ".jpg": _encoded(".jpg", overlay, _JPEG),
            ".png": _encoded(".png", frame, _PNG),
            ".json": record.encode(),
        }
        size = sum(len(content) for content in contents.values())
        self._make_room(size)
        base = self._root / day / key
        try:
            base.parent.mkdir(parents=True, exist_ok=True)
            _write_set(base, contents, self._writer)
            mtime_ns = base.with_name(base.name + ".json").stat().st_mtime_ns
        except OSError as error:
            self._remove_empty(day, key.split("/")[0])
            raise SnapshotError(self._why(error)) from None
        kept = _Set({kind: len(content) for kind, content in contents.items()}, mtime_ns, labelled=False)
        self._remember(day, key, kept)
        return size

    def step(self) -> bool:
        """One slice of reading the folder: at the start, then again every few minutes.

        Returns True while more waits. The first pass also removes what a killed writer left. `prune` does
        this too; a worker with nothing else to do may call it between. Raises SnapshotError at the end of a
        pass that could not read everything.
        """
        if self._scan is None:
            if self._monotonic_ns() < self._scan_due_ns:
                return False
            self._scan = self._scanned()
            self._scan_due_ns = self._monotonic_ns() + RESCAN_NS
        try:
            next(self._scan)
        except StopIteration:
            self._scan = None
            self._complete = True
        except OSError as error:
            self._scan = None
            self._unread = self._why(error)
        if self._scan is not None:
            return True
        unread, self._unread = self._unread, None
        if unread is not None:
            raise SnapshotError(unread)
        return False

    def prune(self) -> int:
        """Deletes what is too old or too much, oldest first, and returns how many sets went.

        Sets that a person has labelled outlive `keep_days`; for space they go too, after all the others.
        Age never takes the newest day, nor believes a clock that has just jumped ahead. Reads the folder
        where that is due, for a fraction of a second, and deletes at most `MOST_DELETED` sets: what is left
        is done by the next call. Raises SnapshotError, having done what could be done.
        """
        trouble: SnapshotError | None = None
        until = self._monotonic_ns() + SCAN_BUDGET_NS
        try:
            while self.step() and self._monotonic_ns() < until:
                pass
        except SnapshotError as error:
            trouble = error
        deleted = 0
        for day, key in self._expired():
            if deleted >= MOST_DELETED:
                break
            deleted += self._delete(day, key)
        deleted += self._free(self._bytes - round(self._settings.max_gb * GB), MOST_DELETED - deleted)
        deleted += self._free_for(0, MOST_DELETED - deleted)
        undeleted, self._undeleted = self._undeleted, None
        if undeleted is not None:
            raise SnapshotError(undeleted)
        if trouble is not None:
            raise trouble
        return deleted

    # -- space

    def _make_room(self, size: int) -> None:
        """Room for a set of `size` bytes within both limits, or SnapshotError."""
        over = self._bytes + size - round(self._settings.max_gb * GB)
        if over > 0:
            # The set itself may be larger than the limit: then it stands alone.
            self._free(over, MOST_DELETED)
        self._free_for(size, MOST_DELETED)
        if self._lacking_free(size) > 0:
            free = self._free_bytes()
            raise SnapshotError(
                f"snapshots: {self._root}: {_gb(free)} GB free, too little for another one above "
                f"snapshots.min_free_gb = {self._settings.min_free_gb:g}, and nothing to delete: "
                "free some disk space"
            )

    def _lacking_free(self, size: int) -> int:
        """Bytes missing to the free-space floor once `size` more are written; 0 or less: there is room."""
        floor = round(self._settings.min_free_gb * GB)
        return floor + size - self._free_bytes()

    def _free_for(self, size: int, most: int) -> int:
        """Deletes sets for the free-space floor; none where all of them together would not reach it.

        Then someone else fills the disk, and the evidence would go for nothing.
        """
        lacking = self._lacking_free(size)
        return 0 if lacking > self._bytes else self._free(lacking, most)

    def _free_bytes(self) -> int:
        place = self._root
        try:
            while not place.exists() and place != place.parent:
                place = place.parent
            stat = os.statvfs(place)
        except OSError as error:
            raise SnapshotError(self._why(error)) from None
        return stat.f_bavail * stat.f_frsize

    def _free(self, lacking: int, most: int) -> int:
        """Deletes sets until `lacking` bytes are freed, unlabelled ones first; returns how many went."""
        if lacking <= 0:
            return 0
        deleted = 0
        for labelled in (False, True):
            for day, key in self._oldest_first():
                if lacking <= 0 or deleted >= most:
                    return deleted
                known = self._known(day, key)
                if known is None or self._is_labelled(day, key, known) is not labelled:
                    continue
                lacking -= known.bytes
                deleted += self._delete(day, key)
        return deleted

    # -- age

    def _expired(self) -> Iterator[tuple[str, str]]:
        """Unlabelled sets older than `keep_days`, oldest first. Whoever iterates may delete them."""
        if not self._days:
            return
        newest = max(self._days)
        try:
            limit = datetime.fromtimestamp(self._believed.now_ns() / 1e9, UTC) - timedelta(
                days=self._settings.keep_days
            )
        except OverflowError:
            return
        last_day, last_clock = f"{limit:%Y-%m-%d}", f"{limit:%H%M%S}{limit.microsecond // 1000:03d}"
        for day, key in self._oldest_first():
            if day > last_day or day == newest:
                return
            if day == last_day and _clock(key) >= last_clock:
                return
            known = self._known(day, key)
            if known is not None and not self._is_labelled(day, key, known):
                yield day, key

    def _oldest_first(self) -> Iterator[tuple[str, str]]:
        for day in sorted(self._days):
            # A copy, lazily made a day at a time: the caller deletes while it reads.
            for key in tuple(self._days.get(day, ())):
                yield day, key

    def _is_labelled(self, day: str, key: str, known: _Set) -> bool:
        """Read from the file when it has changed since: labels are written by others.

        A label that was seen is believed until the next scan: among thousands of labelled sets the few others
        must be found without opening each one.
        """
        if known.labelled:
            return True
        file = self._root / day / f"{key}.json"
        try:
            mtime_ns = file.stat().st_mtime_ns
            if known.labelled is None or known.json_mtime_ns != mtime_ns:
                known.labelled = bool(json.loads(file.read_bytes()).get("labels"))
                known.json_mtime_ns = mtime_ns
        except (FileNotFoundError, ValueError, AttributeError, RecursionError):
            # No JSON, or none that says anything: nobody has labelled this set.
            known.labelled = False
        except OSError:
            # It may hold a label: keep the set as long as possible.
            return True
        return known.labelled

    def _delete(self, day: str, key: str) -> int:
        known = self._forget(day, key)
        base = self._root / day / key
        try:
            # The JSON first: where it is, the set is whole.
            for kind in (".json", ".png", ".jpg"):
                base.with_name(base.name + kind).unlink(missing_ok=True)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise SnapshotError(self._why(error)) from None
            # One folder that belongs to someone else must not keep all the others. The next scan finds it.
            self._undeleted = self._why(error)
            return 0
        self._remove_empty(day, key.split("/")[0])
        return 1 if known is not None else 0

    def _remove_empty(self, day: str, camera: str) -> None:
        # Succeeds only on empty folders.
        with contextlib.suppress(OSError):
            (self._root / day / camera).rmdir()
        with contextlib.suppress(OSError):
            (self._root / day).rmdir()

    # -- what is known of the folder

    def _known(self, day: str, key: str) -> _Set | None:
        sets = self._days.get(day)
        return None if sets is None else sets.get(key)

    def _remember(self, day: str, key: str, kept: _Set) -> None:
        self._forget(day, key)
        if day not in self._days:
            self._days[day] = OrderedDict()
        self._days[day][key] = kept
        self._bytes += kept.bytes
        if self._in_scan is not None and self._in_scan[0] == day:
            self._in_scan[1][key] = kept

    def _forget(self, day: str, key: str) -> _Set | None:
        known = self._days.get(day, OrderedDict()).pop(key, None)
        if known is not None:
            self._bytes -= known.bytes
            if not self._days[day]:
                del self._days[day]
        if self._in_scan is not None and self._in_scan[0] == day:
            self._in_scan[1].pop(key, None)
        return known

    def _scanned(self) -> Iterator[None]:
        """Reads the folder a day at a time, oldest first, replacing what is known of that day."""
        on_disk = sorted(_folders(self._root, _DAY))
        for gone in set(self._days) - set(on_disk):
            self._replace(gone, OrderedDict())
        yield
        for day in on_disk:
            fresh: _Day = OrderedDict()
            self._in_scan = (day, fresh)
            try:
                for camera in sorted(_folders(self._root / day, _CAMERA)):
                    yield from self._read_camera(day, camera, fresh)
            except OSError as error:
                self._unread = self._why(error)
            self._in_scan = None
            before = self._days.get(day, OrderedDict())
            for key, found in fresh.items():
                known = before.get(key)
                if known is not None and known.json_mtime_ns == found.json_mtime_ns:
                    found.labelled = known.labelled
            self._replace(day, OrderedDict(sorted(fresh.items(), key=lambda item: _clock(item[0]))))
            yield

    def _read_camera(self, day: str, camera: str, fresh: _Day) -> Iterator[None]:
        folder = self._root / day / camera
        seen = 0
        with _entries(folder) as entries:
            for entry in entries:
                seen += 1
                if seen % SLICE == 0:
                    yield
                if match := _SNAPSHOT.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        stat = entry.stat(follow_symlinks=False)
                        known = fresh.setdefault(f"{camera}/{match['stem']}", _Set())
                        known.sizes[match["kind"]] = stat.st_size
                        if match["kind"] == ".json":
                            known.json_mtime_ns = stat.st_mtime_ns
                elif (match := _TEMPORARY.fullmatch(entry.name)) and match["writer"] != self._writer:
                    # One line, one writer: another's temporary file is a dead one's.
                    with contextlib.suppress(FileNotFoundError):
                        Path(entry.path).unlink()
                elif entry.name.startswith(WRITING):
                    self._remove_left_over(entry)
        if seen == 0:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _remove_left_over(self, entry: os.DirEntry[str]) -> None:
        """A label that was never whole; one that is being written is a moment old."""
        with contextlib.suppress(FileNotFoundError):
            if self._believed.now_ns() - entry.stat(follow_symlinks=False).st_mtime_ns > _LEFT_OVER_NS:
                Path(entry.path).unlink()

    def _replace(self, day: str, fresh: _Day) -> None:
        before = self._days.pop(day, OrderedDict())
        self._bytes += sum(kept.bytes for kept in fresh.values()) - sum(
            kept.bytes for kept in before.values()
        )
        if fresh:
            self._days[day] = fresh
        else:
            with contextlib.suppress(OSError):
                (self._root / day).rmdir()

    def _why(self, error: OSError) -> str:
        place = error.filename if isinstance(error.filename, str) else str(self._root)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"snapshots: {self._root}: the disk is full: free some space or lower snapshots.max_gb"
        if error.errno == errno.EROFS:
            return f"snapshots: {self._root}: the file system is read-only: mount it writable"
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"snapshots: {place}: no permission: let the service's user write there"
        return f"snapshots: {place}: {error.strerror or error}"


def _split(relative_jpg: str) -> tuple[str, str]:
    """`<day>/<camera>/<stem>.jpg` to the day and `<camera>/<stem>`."""
    day, camera, name = ([*relative_jpg.split("/"), "", ""])[:3]
    match = _SNAPSHOT.fullmatch(name)
    if (
        relative_jpg.count("/") != 2
        or match is None
        or match["kind"] != ".jpg"
        or not (_DAY.fullmatch(day) and _CAMERA.fullmatch(camera))
    ):
        raise ValueError(f"{relative_jpg!r} is not a snapshot's path")
    return day, f"{camera}/{match['stem']}"


def _clock(key: str) -> str:
    """HHMMSSmmm out of `<camera>/<stem>`: sorts a day's sets by time."""
    return key.partition("/")[2][:9]


def _encoded(kind: str, image: Image, options: tuple[int, int]) -> bytes:
    done, buffer = cv2.imencode(kind, image, list(options))
    if not done:
        raise SnapshotError(f"snapshots: an image of {image.shape} can't be written as {kind}")
    return bytes(buffer)


def _write_set(base: Path, contents: dict[str, bytes], writer: str) -> None:
    """All bytes under temporary names, synced, then one rename each. Raises OSError and leaves nothing."""
    made: list[Path] = []
    try:
        for kind, content in contents.items():
            temporary = base.with_name(f".{base.name}{kind}.{writer}.tmp")
            made.append(temporary)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for kind, temporary in zip(contents, tuple(made), strict=True):
            final = base.with_name(base.name + kind)
            temporary.replace(final)
            made.append(final)
        _sync_folder(base.parent)
    except OSError:
        for file_ in reversed(made):
            with contextlib.suppress(OSError):
                file_.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(parent: Path, name: re.Pattern[str]) -> list[str]:
    with _entries(parent) as entries:
        return [e.name for e in entries if name.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]


@contextlib.contextmanager
def _entries(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """A folder's entries; none when someone has deleted it."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        yield iter(())
        return
    with entries:
        yield entries


def _gb(size: int) -> str:
    return f"{size / GB:.3g}"
