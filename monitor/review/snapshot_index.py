"""The snapshot folder's contents in memory, so that a page over 100,000 snapshots takes milliseconds.

It knows nothing of HTTP, and it deletes nothing. The folder is the truth: files may come and go by hand at
any moment. A thread follows the folder: it first reads all names, newest day first, then the `.json` files,
and after that only folders that have changed. A page waits at most `PAGE_READ_S` for unread files.
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
from datetime import UTC, datetime
from itertools import chain

from monitor.review.filters import Filters, PageStart
from monitor.review.labels import NO_DETAILS, SnapshotDetails
from monitor.review.snapshot_files import Key, SnapshotFiles
from monitor.snapshots.folder_scan import CAMERA, DAY, STEM, entries, folders
from monitor.system.trouble_log import TroubleLog

FOLLOW_EVERY_S = 1.5
"""Seconds until a new snapshot shows."""
READ_AGAIN_S = 300.0
"""Seconds until filters see a label that another program has written."""
PAGE_READ_S = 0.12
"""Seconds that one page spends on `.json` files that the thread has not read yet."""
_SETTLED_NS = 2_000_000_000
"""Nanoseconds. A folder's time stamp is as coarse as a clock tick: a change within the same tick leaves it
unchanged, so a younger stamp is not trusted."""
_BATCH, _PAUSE_S = 200, 0.002
_MAX_COUNTS = 32


@dataclass(slots=True, eq=False)
class IndexEntry:
    """One snapshot. The first reader of its `.json` sets `details` in one step."""

    key: Key
    details: SnapshotDetails | None = None
    mtime_ns: int = 0
    """Of the `.json` that `details` was read from."""
    failure_logged: bool = False
    score: float = field(init=False)
    """`key.score`, parsed once."""

    def __post_init__(self) -> None:
        self.score = self.key.score


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """One page of snapshots, newest first."""

    entries: tuple[IndexEntry, ...]
    is_first: bool
    """No newer snapshot matches, as far as is known."""
    is_last: bool
    complete: bool
    """False when the time limit left files unread: more snapshots may match."""


@dataclass(slots=True)
class _Folder:
    mtime_ns: int
    entries: dict[str, IndexEntry]


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
        self._counts: OrderedDict[tuple[Filters, int], int] = OrderedDict()
        self._read_again_at = clock() + READ_AGAIN_S
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._log = logging.getLogger(__name__)
        self._trouble_log = TroubleLog(self._log, ended="snapshots can be read again")
        self.complete = False
        """Whether all names have been read."""
        self.unread = 0
        """Snapshots whose `.json` the last round had not read yet."""

    # -- following the folder

    def start(self) -> None:
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread lives: without it the page would never show a new snapshot."""
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
        # Gives the processor to page requests and to the line between two batches.
        self._stopping.wait(_PAUSE_S)

    def step(self, pause: Callable[[], None] = lambda: None) -> None:
        """One round: all names, then the `.json` files that are not read yet. Raises OSError."""
        again = self._clock() >= self._read_again_at
        if again:
            self._read_again_at = self._clock() + READ_AGAIN_S
        self._read_names(again, pause)
        self.complete = True
        unread = [entry for entry in self._newest_first(self._days) if entry.details is None]
        self.unread = len(unread)
        for number, entry in enumerate(unread):
            if self._stopping.is_set():
                return
            self.details(entry)
            self.unread -= 1
            if number % _BATCH == _BATCH - 1:
                self._forget_counts()
                pause()
        if unread:
            self._forget_counts()

    def _read_names(self, again: bool, pause: Callable[[], None]) -> None:
        present = set()
        for day in sorted(folders(self._files.root, DAY), reverse=True):
            changed = False
            for camera in folders(self._files.root / day, CAMERA):
                present.add((day, camera))
                changed |= self._read_folder(day, camera, again, pause)
            if changed:
                self._publish(day)
        for day, camera in [folder for folder in self._folders if folder not in present]:
            del self._folders[day, camera]
            self._publish(day)

    def _read_folder(self, day: str, camera: str, again: bool, pause: Callable[[], None]) -> bool:
        """Whether the folder's snapshots are others than before; with `again` also checks every `.json`."""
        folder = self._files.root / day / camera
        before = self._folders.get((day, camera))
        try:
            mtime_ns = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if before is not None and before.mtime_ns == mtime_ns and not again:
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
                    if again and suffix == "json" and (old := known.get(stem)) is not None:
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
        folders = [
            folder.entries.values() for (its_day, _), folder in self._folders.items() if its_day == day
        ]
        ordered = tuple(sorted(chain.from_iterable(folders), key=lambda entry: entry.key.stem))
        with self._lock:
            if ordered:
                self._days = {**self._days, day: ordered}
            else:
                self._days = {its_day: entries for its_day, entries in self._days.items() if its_day != day}
        self._forget_counts()

    def _forget_counts(self) -> None:
        """The counts in the cache belong to a generation; from now on they are not used."""
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
        # Interned: 100,000 snapshots share a few recipe names and verdicts.
        details = replace(read, recipe=sys.intern(read.recipe), verdict=sys.intern(read.verdict))
        entry.details, entry.mtime_ns = details, mtime_ns
        if known is not None and known != details:
            self._forget_counts()
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
        for entry in day[first : first + 8]:
            if entry.key == key:
                return entry
        return IndexEntry(key)

    def page(self, filters: Filters, count: int, start: PageStart | None = None) -> SnapshotPage:
        """At most `count` snapshots, from `start` on, or the newest."""
        until = self._clock() + PAGE_READ_S
        upwards = start is not None and start.direction == "newer"
        entries, complete = self._take(filters, count + 1, start, until)
        more = len(entries) > count
        entries = entries[:count]
        if upwards:
            entries.reverse()
            return SnapshotPage(tuple(entries), not more, False, complete)
        return SnapshotPage(tuple(entries), start is None, not more, complete)

    def neighbours(self, filters: Filters, key: Key) -> tuple[Key | None, Key | None]:
        """The next newer and the next older snapshot."""
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

    def days(self) -> dict[str, int]:
        """The number of snapshots of each day, newest day first."""
        days = self._days
        return {day: len(days[day]) for day in sorted(days, reverse=True)}

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
        if start is None:
            yield from self._newest_first(days)
            return
        start_day, stem = start.order
        upwards = start.direction == "newer"
        for day in sorted(days, reverse=not upwards):
            entries = days[day]
            if (day < start_day) if upwards else (day > start_day):
                continue
            if day == start_day:
                if upwards:
                    entries = entries[bisect.bisect_right(entries, stem, key=lambda e: e.key.stem) :]
                else:
                    entries = entries[: bisect.bisect_left(entries, stem, key=lambda e: e.key.stem)]
            yield from entries if upwards else reversed(entries)

    def _newest_first(self, days: dict[str, tuple[IndexEntry, ...]]) -> Iterator[IndexEntry]:
        for day in sorted(days, reverse=True):
            yield from reversed(days[day])

    def _days_of(self, filters: Filters) -> dict[str, tuple[IndexEntry, ...]]:
        days = self._days
        if not filters.day:
            return days
        return {filters.day: days[filters.day]} if filters.day in days else {}


def today(utc_ns: int) -> str:
    return f"{datetime.fromtimestamp(utc_ns / 1e9, UTC):%Y-%m-%d}"
