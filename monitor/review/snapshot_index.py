"""An index of the snapshot folder in memory, from which a page of 100,000 snapshots is made in milliseconds.

It knows nothing of HTTP, and it deletes nothing. What counts is the folder: people and other programs may add
and remove files at any moment. A thread follows the folder in rounds. Each round reads the names in all
folders that have changed, newest day first, and then the `.json` files that are not read yet. Every
`REREAD_S`, a round reads the names in all folders and looks for changed `.json` files. A page spends at most
`PAGE_READ_S` on files that the thread has not read yet.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from monitor.review.filters import Filters, PageStart
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import Key, SnapshotFiles
from monitor.snapshots.folder_scan import CAMERA, DAY, STEM, entries, folders
from monitor.snapshots.labels import NO_DETAILS, SnapshotDetails
from monitor.system.trouble_log import TroubleLog

FOLLOW_EVERY_S = 1.5
"""Seconds between two rounds of the thread: a new snapshot shows after about this time."""
REREAD_S = 300.0
"""Seconds between two readings of all folders: filters apply a label that another program has written after
about this time."""
PAGE_READ_S = 0.12
"""Seconds that one page spends on `.json` files that the thread has not read yet."""
_SETTLED_NS = 2_000_000_000
"""Nanoseconds. A folder whose time stamp was younger than this when it was read is read again in the next
round: two changes within one tick of the file system's clock leave the same time stamp."""
_BATCH = 200
"""After this many `.json` files, or 50 times as many names, the thread pauses."""
_PAUSE_S = 0.002
_MAX_COUNTS = 32
"""How many queries' counts are cached."""


@dataclass(slots=True, eq=False)
class IndexEntry:
    """One snapshot in the index."""

    key: Key
    details: SnapshotDetails | None = None
    """What the `.json` holds; None until it is read. Always replaced as a whole, so that another thread never
    sees a part of it."""
    mtime_ns: int = 0
    """The time stamp of the `.json` that `details` was read from; 0 without such a file."""
    failure_logged: bool = False
    """Whether the log has the error that reading this snapshot caused."""
    score: float = field(init=False)
    """`key.score`, parsed from the name once."""

    def __post_init__(self) -> None:
        self.score = self.key.score


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """One page of snapshots, newest first."""

    entries: tuple[IndexEntry, ...]
    is_first: bool
    """Whether no newer snapshot matches, as far as the files are read; always False if the page was asked for
    as older than a `PageStart`."""
    is_last: bool
    """Whether no older snapshot matches, as far as the files are read; always False if the page was asked for
    as newer than a `PageStart`."""
    complete: bool
    """False when the time limit left files unread: more snapshots may match."""


@dataclass(slots=True)
class _Folder:
    """One camera's folder of one day, as it was read last."""

    mtime_ns: int
    """The folder's time stamp; 0 if it was too young, so that the folder is read again."""
    entries: dict[str, IndexEntry]
    """By stem."""


class SnapshotIndex:
    """`start` runs the thread that follows the folder; `step` is one round. Safe for several threads."""

    def __init__(
        self,
        files: SnapshotFiles,
        *,
        clock: Callable[[], float] = time.monotonic,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._files = files
        self._clock, self._utc_ns = clock, utc_ns
        self._folders: dict[tuple[str, str], _Folder] = {}
        self._days: dict[str, tuple[IndexEntry, ...]] = {}
        self._lock = threading.Lock()
        self._generation = 0
        """The number of changes to the index so far."""
        self._counts: OrderedDict[tuple[Filters, int], int] = OrderedDict()
        """The number of matches by filters and generation."""
        self._reread_at = clock() + REREAD_S
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._log = logging.getLogger(__name__)
        self._trouble_log = TroubleLog(self._log, ended="snapshots can be read again")
        self.complete = False
        """Whether the first round has read all names."""
        self.unread = 0
        """The number of snapshots whose `.json` the current round has yet to read."""

    # -- following the folder

    def start(self) -> None:
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread runs. Without it, the page never shows a new snapshot."""
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step(self._pause)
            except OSError as error:
                problem = f"snapshots can't be read: {error.filename}: {error.strerror}"
            else:
                problem = ""
            self._trouble_log.report(problem)
            self._stopping.wait(FOLLOW_EVERY_S)

    def _pause(self) -> None:
        # Between two batches, page requests and the line's processes get the processor.
        self._stopping.wait(_PAUSE_S)

    def step(self, pause: Callable[[], None] = lambda: None) -> None:
        """Runs one round: the names in changed folders, then the `.json` files that are not read yet.

        Every `REREAD_S` it reads the names in all folders. `pause` is called between two batches. Raises
        OSError.
        """
        reread_all = self._clock() >= self._reread_at
        if reread_all:
            self._reread_at = self._clock() + REREAD_S
        self._read_names(reread_all, pause)
        self.complete = True
        unread = [entry for entry in self._newest_first(self._days) if entry.details is None]
        self.unread = len(unread)
        for number, entry in enumerate(unread):
            if self._stopping.is_set():
                return
            self.details(entry)
            self.unread -= 1
            if number % _BATCH == _BATCH - 1:
                self._start_generation()
                pause()
        if unread:
            self._start_generation()

    def _read_names(self, reread_all: bool, pause: Callable[[], None]) -> None:
        present = set()
        for day in sorted(folders(self._files.root, DAY), reverse=True):
            changed = False
            for camera in folders(self._files.root / day, CAMERA):
                present.add((day, camera))
                changed |= self._read_folder(day, camera, reread_all, pause)
            if changed:
                self._publish(day)
        for day, camera in [folder for folder in self._folders if folder not in present]:
            del self._folders[day, camera]
            self._publish(day)

    def _read_folder(self, day: str, camera: str, reread_all: bool, pause: Callable[[], None]) -> bool:
        """Reads a folder's names if it has changed. Returns whether snapshots were added or removed.

        With `reread_all` it reads an unchanged folder too, and forgets the details of each changed `.json`.
        """
        folder = self._files.root / day / camera
        before = self._folders.get((day, camera))
        try:
            mtime_ns = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if before is not None and before.mtime_ns == mtime_ns and not reread_all:
            return False
        settled = self._utc_ns() - mtime_ns > _SETTLED_NS
        known = before.entries if before is not None else {}
        fresh: dict[str, IndexEntry] = {}
        with entries(folder) as found:
            for number, file in enumerate(found):
                if number % (50 * _BATCH) == 50 * _BATCH - 1:
                    pause()
                stem, dot, suffix = file.name.rpartition(".")
                if not dot or suffix not in ("jpg", "png"):
                    if reread_all and suffix == "json" and (old := known.get(stem)) is not None:
                        self._forget_if_changed(old, file)
                    continue
                if stem not in fresh and STEM.fullmatch(stem):
                    fresh[stem] = known.get(stem) or IndexEntry(Key(day, camera, stem))
        self._folders[day, camera] = _Folder(mtime_ns if settled else 0, fresh)
        return fresh.keys() != known.keys()

    def _forget_if_changed(self, entry: IndexEntry, file: os.DirEntry[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            if file.stat(follow_symlinks=False).st_mtime_ns != entry.mtime_ns:
                entry.details = None

    def _publish(self, day: str) -> None:
        """Makes a day's new names visible in one step."""
        by_camera = [
            folder.entries.values() for (its_day, _), folder in self._folders.items() if its_day == day
        ]
        ordered = tuple(sorted(chain.from_iterable(by_camera), key=lambda entry: entry.key.stem))
        with self._lock:
            if ordered:
                self._days = {**self._days, day: ordered}
            else:
                self._days = {its_day: known for its_day, known in self._days.items() if its_day != day}
        self._start_generation()

    def _start_generation(self) -> None:
        """Makes the cached counts invalid: they belong to the generations before."""
        with self._lock:
            self._generation += 1

    # -- queries

    def details(self, entry: IndexEntry, fresh: bool = False) -> SnapshotDetails:
        """The details in the entry's `.json`; reads the file when they are not known yet, or with `fresh`."""
        known = entry.details
        if known is not None and not fresh:
            return known
        file = self._files.root / entry.key.day / entry.key.camera / f"{entry.key.stem}.json"
        try:
            mtime_ns = file.lstat().st_mtime_ns
        except OSError:
            mtime_ns = 0
        read = self._read(entry)
        # Interning saves memory: 100,000 snapshots share a few recipe names and verdicts.
        details = replace(
            read,
            recipe=sys.intern(read.recipe),
            verdict=sys.intern(read.verdict),
            recipe_sha=sys.intern(read.recipe_sha),
        )
        entry.details, entry.mtime_ns = details, mtime_ns
        if known is not None and known != details:
            self._start_generation()
        return details

    def _read(self, entry: IndexEntry) -> SnapshotDetails:
        try:
            return self._files.details(entry.key)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - logged once a snapshot
            # One unreadable snapshot must not hide the others.
            if not entry.failure_logged:
                entry.failure_logged = True
                self._log.exception("snapshot %s can't be read: left out", entry.key.path)
            return NO_DETAILS

    def find(self, key: Key) -> IndexEntry:
        """The entry of that snapshot; a new one where the thread has not seen the snapshot yet."""
        day = self._days.get(key.day, ())
        first = bisect.bisect_left(day, key.stem, key=lambda entry: entry.key.stem)
        # A stem contains its camera's name, so stems are equal only for files that someone copied into
        # another camera's folder. The search is bounded: more than 8 equal stems are not expected.
        for entry in day[first : first + 8]:
            if entry.key == key:
                return entry
        return IndexEntry(key)

    def holds(self, key: Key) -> bool:
        """Whether the thread has read that snapshot. It looks at no file, so that it never waits for the
        disk."""
        return self.find(key).details is not None

    def page(self, filters: Filters, count: int, start: PageStart | None = None) -> SnapshotPage:
        """At most `count` matching snapshots: those next to `start`, strictly newer or older than it.

        Without `start` they are the newest.
        """
        until = self._clock() + PAGE_READ_S
        newer = start is not None and start.direction == "newer"
        taken, complete = self._take(filters, count + 1, start, until)
        more = len(taken) > count
        taken = taken[:count]
        if newer:
            taken.reverse()
            return SnapshotPage(tuple(taken), not more, False, complete)
        return SnapshotPage(tuple(taken), start is None, not more, complete)

    def neighbours(self, filters: Filters, key: Key) -> tuple[Key | None, Key | None]:
        """The matching snapshots just newer and just older than `key`; None where there is none."""
        until = self._clock() + PAGE_READ_S
        newer, _ = self._take(filters, 1, PageStart("newer", key.order), until)
        older, _ = self._take(filters, 1, PageStart("older", key.order), until)
        return newer[0].key if newer else None, older[0].key if older else None

    def count(self, filters: Filters) -> int:
        """The number of snapshots that match, as far as they are read."""
        query = (filters, self._generation)
        with self._lock:
            if (known := self._counts.get(query)) is not None:
                return known
        number = sum(1 for _ in self.matching(filters))
        with self._lock:
            self._counts[query] = number
            while len(self._counts) > _MAX_COUNTS:
                self._counts.popitem(last=False)
        return number

    def matching(self, filters: Filters) -> Iterator[IndexEntry]:
        """All snapshots that match, newest first, as far as they are read."""
        for entry in self._newest_first(self._days_of(filters)):
            if not filters.matches_name(entry.key, entry.score):
                continue
            if filters.needs_details and (entry.details is None or not filters.matches(entry.details)):
                continue
            yield entry

    @property
    def generation(self) -> int:
        """Another number after each change: snapshots that came or went, labels."""
        return self._generation

    def newest_reject(self) -> IndexEntry | None:
        """The newest snapshot of a rejected part, as far as they are read."""
        return next(self.matching(Filters()), None)

    def days(self, clock: PlantClock) -> dict[str, int]:
        """The number of snapshots of each of the plant's days, newest day first."""
        days, found = self._days, dict[str, int]()
        for name, in_day in days.items():
            ends = (in_day[0], in_day[-1])
            for day in {clock.day(clock.of_snapshot(name, entry.key.stem)) for entry in ends}:
                period = clock.period(day)
                first = bisect.bisect_left(in_day, period.start_order, key=_order)
                found[day] = (
                    found.get(day, 0) + bisect.bisect_left(in_day, period.end_order, key=_order) - first
                )
        return {day: found[day] for day in sorted(found, reverse=True)}

    def total(self) -> int:
        return sum(len(day) for day in self._days.values())

    def cameras(self) -> list[str]:
        return sorted({camera for _, camera in tuple(self._folders)})

    def recipes(self) -> list[str]:
        return sorted(
            {entry.details.recipe for entry in self._newest_first(self._days) if entry.details} - {""}
        )

    def _take(
        self, filters: Filters, count: int, start: PageStart | None, until: float
    ) -> tuple[list[IndexEntry], bool]:
        """The first `count` matches, and whether all files needed for that were read before `until`."""
        taken: list[IndexEntry] = []
        for entry in self._from(self._days_of(filters), start):
            if not filters.matches_name(entry.key, entry.score):
                continue
            if filters.needs_details:
                if entry.details is None and self._clock() > until:
                    return taken, False
                if not filters.matches(self.details(entry)):
                    continue
            taken.append(entry)
            if len(taken) == count:
                break
        return taken, True

    def _from(self, days: dict[str, tuple[IndexEntry, ...]], start: PageStart | None) -> Iterator[IndexEntry]:
        """The entries strictly newer or older than `start`, nearest first; without `start` newest first."""
        if start is None:
            yield from self._newest_first(days)
            return
        start_day, stem = start.order
        newer = start.direction == "newer"
        for day in sorted(days, reverse=not newer):
            in_day = days[day]
            if (day < start_day) if newer else (day > start_day):
                continue
            if day == start_day:
                if newer:
                    in_day = in_day[bisect.bisect_right(in_day, stem, key=lambda e: e.key.stem) :]
                else:
                    in_day = in_day[: bisect.bisect_left(in_day, stem, key=lambda e: e.key.stem)]
            yield from in_day if newer else reversed(in_day)

    def _newest_first(self, days: dict[str, tuple[IndexEntry, ...]]) -> Iterator[IndexEntry]:
        for day in sorted(days, reverse=True):
            yield from reversed(days[day])

    def _days_of(self, filters: Filters) -> dict[str, tuple[IndexEntry, ...]]:
        days = self._days
        if filters.period is None:
            return days
        first, last = filters.period.start_order[0], filters.period.end_order[0]
        return {day: days[day] for day in days if first <= day <= last}


def _order(entry: IndexEntry) -> tuple[str, str]:
    return entry.key.order
