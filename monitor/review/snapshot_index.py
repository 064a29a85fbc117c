"""What lies in the snapshot folder, in memory, so that 100,000 snapshots can be looked through at once.

The folder is the truth. A thread of its own follows it: names at once, newest day first, then what stands in
the `.json` files; afterwards only folders that have changed. Files may come and go by hand at any moment.
Must never delete anything, and never keep a page waiting for more than a fraction of a second.
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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from monitor.review.filters import Filters, Place
from monitor.review.labels import UNKNOWN, About
from monitor.review.snapshot_files import Key, SnapshotFiles
from monitor.snapshots.folder_scan import CAMERA, DAY, STEM, entries, folders

FOLLOW_EVERY_S = 1.5
"""How soon a new snapshot shows."""
READ_AGAIN_S = 300.0
"""How soon a label that something else than this page has written shows in filters."""
PATIENCE_S = 0.12
"""How long a page reads files that the thread has not come to."""
_SETTLED_NS = 2_000_000_000
"""A folder's time stamp is as coarse as a jiffy: one that is younger may still hide a change."""
_SLICE, _REST_S = 200, 0.002
_COUNTS_KEPT = 32


@dataclass(slots=True, eq=False)
class Entry:
    """A snapshot. `about` is set in one step, by whoever reads it first."""

    key: Key
    about: About | None = None
    mtime_ns: int = 0
    """Of the `.json` that `about` was read from."""
    is_left_out: bool = False
    """It was said that it can't be read."""
    score: float = field(init=False)

    def __post_init__(self) -> None:
        self.score = self.key.score


@dataclass(frozen=True, slots=True)
class Found:
    """A page of snapshots, newest first."""

    entries: tuple[Entry, ...]
    is_first: bool
    """Nothing newer matches, as far as is known."""
    is_last: bool
    complete: bool
    """False when files were left unread for want of time: there may be more."""


@dataclass(slots=True)
class _Folder:
    mtime_ns: int
    entries: dict[str, Entry]


class Index:
    """The index. `start` runs the thread; `step` is one round of it."""

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
        self._days: dict[str, tuple[Entry, ...]] = {}
        self._lock = threading.Lock()
        self._generation = 0
        self._counts: OrderedDict[tuple[Filters, int], int] = OrderedDict()
        self._read_again_at = clock() + READ_AGAIN_S
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="index", daemon=True)
        self._trouble = ""
        self._log = logging.getLogger(__name__)
        self.complete = False
        """Whether every name is known."""
        self.unread = 0
        """Snapshots whose `.json` was not read yet, at the last look."""

    # -- following the folder

    def start(self) -> None:
        self._thread.start()

    @property
    def follows(self) -> bool:
        """Whether the thread lives: without it the page would show an old day for ever."""
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopping.set()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step(self._rest)
            except OSError as error:
                trouble = f"snapshots can't be read: {error.filename}: {error.strerror}"
            else:
                trouble = ""
            if trouble != self._trouble:
                if trouble:
                    self._log.error("%s", trouble)
                else:
                    self._log.info("snapshots can be read again")
                self._trouble = trouble
            self._stopping.wait(FOLLOW_EVERY_S)

    def _rest(self) -> None:
        # Pages go first, and so does everybody else on the machine.
        self._stopping.wait(_REST_S)

    def step(self, rest: Callable[[], None] = lambda: None) -> None:
        """One round: names, then the `.json` files that nobody has read. Raises OSError."""
        again = self._clock() >= self._read_again_at
        if again:
            self._read_again_at = self._clock() + READ_AGAIN_S
        self._read_names(again, rest)
        self.complete = True
        unread = [entry for entry in self._newest_first(self._shown()) if entry.about is None]
        self.unread = len(unread)
        for place, entry in enumerate(unread):
            if self._stopping.is_set():
                return
            self.about(entry)
            self.unread -= 1
            if place % _SLICE == _SLICE - 1:
                self._changed()
                rest()
        if unread:
            self._changed()

    def _read_names(self, again: bool, rest: Callable[[], None]) -> None:
        present = set()
        for day in sorted(folders(self._files.root, DAY), reverse=True):
            changed = False
            for camera in folders(self._files.root / day, CAMERA):
                present.add((day, camera))
                changed |= self._read_folder(day, camera, again, rest)
            if changed:
                self._publish(day)
        for gone in [place for place in self._folders if place not in present]:
            del self._folders[gone]
            self._publish(gone[0])

    def _read_folder(self, day: str, camera: str, again: bool, rest: Callable[[], None]) -> bool:
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
        fresh: dict[str, Entry] = {}
        with entries(folder) as found:
            for seen, file in enumerate(found):
                if seen % (50 * _SLICE) == 50 * _SLICE - 1:
                    rest()
                stem, dot, suffix = file.name.rpartition(".")
                if not dot or suffix not in ("jpg", "png"):
                    if again and suffix == "json" and (old := known.get(stem)) is not None:
                        self._forget_if_changed(old, file)
                    continue
                if stem not in fresh and STEM.fullmatch(stem):
                    fresh[stem] = known.get(stem) or Entry(Key(day, camera, stem))
        self._folders[day, camera] = _Folder(mtime_ns if settled else 0, fresh)
        return fresh.keys() != known.keys()

    def _forget_if_changed(self, entry: Entry, file: os.DirEntry[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            if file.stat(follow_symlinks=False).st_mtime_ns != entry.mtime_ns:
                entry.about = None

    def _publish(self, day: str) -> None:
        """Makes a day's new names visible, in one step."""
        parts = [folder.entries.values() for (its, _), folder in self._folders.items() if its == day]
        ordered = tuple(sorted(chain.from_iterable(parts), key=lambda entry: entry.key.stem))
        with self._lock:
            if ordered:
                self._days = {**self._days, day: ordered}
            else:
                self._days = {its: entries for its, entries in self._days.items() if its != day}
        self._changed()

    def _changed(self) -> None:
        with self._lock:
            self._generation += 1

    # -- what is known

    def about(self, entry: Entry, fresh: bool = False) -> About:
        """What stands in its `.json`, read where that was not done before, or where `fresh` asks for it."""
        known = entry.about
        if known is not None and not fresh:
            return known
        file = self._files.root / entry.key.day / entry.key.camera / f"{entry.key.stem}.json"
        try:
            mtime_ns = file.lstat().st_mtime_ns
        except OSError:
            mtime_ns = 0
        read = self._read(entry)
        shared = About(
            sys.intern(read.recipe), sys.intern(read.verdict), read.threshold, read.score, read.said
        )
        entry.about, entry.mtime_ns = shared, mtime_ns
        if known is not None and known != shared:
            self._changed()
        return shared

    def _read(self, entry: Entry) -> About:
        try:
            return self._files.about(entry.key)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - said once for each snapshot
            # Whatever is wrong with one snapshot, all the others are to be seen.
            if not entry.is_left_out:
                entry.is_left_out = True
                self._log.exception("snapshot %s can't be read: left out", entry.key.path)
            return UNKNOWN

    def find(self, key: Key) -> Entry:
        """The snapshot of that name; one that the thread has not seen yet too."""
        day = self._shown().get(key.day, ())
        place = bisect.bisect_left(day, key.stem, key=lambda entry: entry.key.stem)
        for entry in day[place : place + 8]:
            if entry.key == key:
                return entry
        return Entry(key)

    def page(self, filters: Filters, count: int, place: Place | None = None) -> Found:
        """`count` snapshots at most, from `place` on or else the newest."""
        until = self._clock() + PATIENCE_S
        upwards = place is not None and place.direction == "newer"
        entries, complete = self._take(filters, count + 1, place, until)
        more = len(entries) > count
        entries = entries[:count]
        if upwards:
            entries.reverse()
            return Found(tuple(entries), not more, False, complete)
        return Found(tuple(entries), place is None, not more, complete)

    def neighbours(self, filters: Filters, key: Key) -> tuple[Key | None, Key | None]:
        """The next newer and the next older one."""
        until = self._clock() + PATIENCE_S
        newer, _ = self._take(filters, 1, Place("newer", key.order), until)
        older, _ = self._take(filters, 1, Place("older", key.order), until)
        return newer[0].key if newer else None, older[0].key if older else None

    def count(self, filters: Filters) -> int:
        """How many match, as far as they are read."""
        asked = (filters, self._generation)
        with self._lock:
            if (known := self._counts.get(asked)) is not None:
                return known
        number = sum(1 for _ in self.matching(filters))
        with self._lock:
            self._counts[asked] = number
            while len(self._counts) > _COUNTS_KEPT:
                self._counts.popitem(last=False)
        return number

    def matching(self, filters: Filters) -> Iterator[Entry]:
        """All that match, newest first, of those that are read."""
        for entry in self._newest_first(self._days_of(filters)):
            if not filters.matches_name(entry.key, entry.score):
                continue
            if filters.needs_about and (entry.about is None or not filters.matches(entry.about)):
                continue
            yield entry

    def days(self) -> dict[str, int]:
        """Snapshots by day, newest first."""
        shown = self._shown()
        return {day: len(shown[day]) for day in sorted(shown, reverse=True)}

    def total(self) -> int:
        return sum(len(day) for day in self._shown().values())

    def cameras(self) -> list[str]:
        return sorted({camera for _, camera in tuple(self._folders)})

    def recipes(self) -> list[str]:
        return sorted(
            {entry.about.recipe for entry in self._newest_first(self._shown()) if entry.about} - {""}
        )

    def _take(
        self, filters: Filters, count: int, place: Place | None, until: float
    ) -> tuple[list[Entry], bool]:
        taken: list[Entry] = []
        for entry in self._from(self._days_of(filters), place):
            if not filters.matches_name(entry.key, entry.score):
                continue
            if filters.needs_about:
                if entry.about is None and self._clock() > until:
                    return taken, False
                if not filters.matches(self.about(entry)):
                    continue
            taken.append(entry)
            if len(taken) == count:
                break
        return taken, True

    def _from(self, days: dict[str, tuple[Entry, ...]], place: Place | None) -> Iterator[Entry]:
        if place is None:
            yield from self._newest_first(days)
            return
        at_day, stem = place.order
        upwards = place.direction == "newer"
        for day in sorted(days, reverse=not upwards):
            entries = days[day]
            if (day < at_day) if upwards else (day > at_day):
                continue
            if day == at_day:
                if upwards:
                    entries = entries[bisect.bisect_right(entries, stem, key=lambda e: e.key.stem) :]
                else:
                    entries = entries[: bisect.bisect_left(entries, stem, key=lambda e: e.key.stem)]
            yield from entries if upwards else reversed(entries)

    def _newest_first(self, days: dict[str, tuple[Entry, ...]]) -> Iterator[Entry]:
        for day in sorted(days, reverse=True):
            yield from reversed(days[day])

    def _shown(self) -> dict[str, tuple[Entry, ...]]:
        return self._days

    def _days_of(self, filters: Filters) -> dict[str, tuple[Entry, ...]]:
        shown = self._shown()
        if not filters.day:
            return shown
        return {filters.day: shown[filters.day]} if filters.day in shown else {}


def today(utc_ns: int) -> str:
    return f"{datetime.fromtimestamp(utc_ns / 1e9, UTC):%Y-%m-%d}"
