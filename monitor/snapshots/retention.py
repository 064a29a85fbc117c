"""The rules for which snapshots are deleted, and when: age, total size and free disk space.

It knows nothing of what a snapshot shows. A *set* is the three files of one snapshot. The oldest sets are
deleted first. A set that a person has labelled is kept beyond `snapshots.keep_days`; for lack of space it is
deleted too, but only after all sets without a label.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from monitor.settings import SnapshotSettings
from monitor.snapshots.folder_scan import (
    FolderScan,
    SnapshotError,
    SnapshotSet,
    remove_if_empty,
    snapshot_error,
    time_of_day,
)
from monitor.system.retention_clock import RetentionClock

_GB = 1_000_000_000
_MOST_DELETED = 500
"""The most sets that one call deletes: some tenths of a second of work."""


class Retention:
    """Deletes sets of the folder that `scan` has read, by the limits in `settings`."""

    def __init__(self, scan: FolderScan, settings: SnapshotSettings, retention_clock: RetentionClock) -> None:
        self._scan, self._settings, self._retention_clock = scan, settings, retention_clock
        self._undeleted: SnapshotError | None = None

    def apply(self) -> int:
        """Delete the sets that exceed a limit, `_MOST_DELETED` at most. Returns how many it deleted.

        The limits are `snapshots.keep_days`, `max_gb` and `min_free_gb`. Raises SnapshotError: at once on a
        read-only file system or when the free space can't be read, otherwise after it has deleted all sets
        that can be deleted.
        """
        deleted = 0
        for day, key in self._expired():
            if deleted >= _MOST_DELETED:
                break
            deleted += self._delete(day, key)
        deleted += self._free(self._scan.total_bytes - self._most_bytes(), _MOST_DELETED - deleted)
        deleted += self._free_disk_for(0, _MOST_DELETED - deleted)
        undeleted, self._undeleted = self._undeleted, None
        if undeleted is not None:
            raise undeleted
        return deleted

    def make_room(self, size: int) -> None:
        """Delete sets until a further set of `size` bytes keeps `max_gb` and `min_free_gb`. Raises
        SnapshotError where that is not possible."""
        over = self._scan.total_bytes + size - self._most_bytes()
        if over > 0:
            # A set that alone is larger than the limit is still written; all others are deleted then.
            self._free(over, _MOST_DELETED)
        self._free_disk_for(size, _MOST_DELETED)
        if self._lacking_disk(size) > 0:
            raise SnapshotError(
                f"snapshots: {self._scan.root}: {self._free_bytes() / _GB:.3g} GB free, but "
                f"snapshots.min_free_gb is {self._settings.min_free_gb:g}, and deleting snapshots can't free "
                "enough: free some disk space"
            )

    # Space

    def _most_bytes(self) -> int:
        return round(self._settings.max_gb * _GB)

    def _lacking_disk(self, size: int) -> int:
        """The bytes that will be missing to `min_free_gb` after `size` bytes are written; 0 or less for
        none."""
        return round(self._settings.min_free_gb * _GB) + size - self._free_bytes()

    def _free_disk_for(self, size: int, most: int) -> int:
        """Delete sets until `size` bytes can be written and `min_free_gb` is kept. Returns how many it
        deleted.

        It deletes none where all sets together are not enough: other files fill the disk, and deleting the
        snapshots does not help.
        """
        lacking = self._lacking_disk(size)
        return 0 if lacking > self._scan.total_bytes else self._free(lacking, most)

    def _free_bytes(self) -> int:
        place = self._scan.root
        try:
            while not place.exists() and place != place.parent:
                place = place.parent
            stat = os.statvfs(place)
        except OSError as error:
            raise snapshot_error(self._scan.root, error) from None
        return stat.f_bavail * stat.f_frsize

    def _free(self, lacking: int, most: int) -> int:
        """Delete sets until `lacking` bytes are freed, `most` at most, those without a label first. Returns
        how many it deleted."""
        if lacking <= 0:
            return 0
        deleted = 0
        for labelled in (False, True):
            for day, key in self._scan.oldest_first():
                if lacking <= 0 or deleted >= most:
                    return deleted
                known = self._scan.get(day, key)
                if known is None or self._is_labelled(day, key, known) is not labelled:
                    continue
                lacking -= known.bytes
                deleted += self._delete(day, key)
        return deleted

    # Age

    def _expired(self) -> Iterator[tuple[str, str]]:
        """Sets without a label that are older than `keep_days`, oldest first. The caller may delete them.

        The sets of the newest day are never too old, so that a wrong clock can't empty the folder; a clock
        that has jumped ahead counts only a day later (`RetentionClock`).
        """
        newest = self._scan.newest_day
        if not newest:
            return
        try:
            limit = datetime.fromtimestamp(self._retention_clock.now_ns() / 1e9, UTC) - timedelta(
                days=self._settings.keep_days
            )
        except OverflowError:
            return
        last_day, last_time = f"{limit:%Y-%m-%d}", f"{limit:%H%M%S}{limit.microsecond // 1000:03d}"
        for day, key in self._scan.oldest_first():
            if day > last_day or day == newest:
                return
            if day == last_day and time_of_day(key) >= last_time:
                return
            known = self._scan.get(day, key)
            if known is not None and not self._is_labelled(day, key, known):
                yield day, key

    # Space and age

    def _is_labelled(self, day: str, key: str, known: SnapshotSet) -> bool:
        """Whether the set's `.json` holds a label. The file is read again when it has changed, since the
        review page writes labels.

        A set with a label counts as labelled until the next scan of its day: otherwise each call would open
        thousands of labelled sets to find the few without a label.
        """
        if known.labelled:
            return True
        file = self._scan.root / day / f"{key}.json"
        try:
            mtime_ns = file.stat().st_mtime_ns
            if known.labelled is None or known.json_mtime_ns != mtime_ns:
                known.labelled = bool(json.loads(file.read_bytes()).get("labels"))
                known.json_mtime_ns = mtime_ns
        except (FileNotFoundError, ValueError, AttributeError, RecursionError):
            # Without a readable `.json` the set has no label.
            known.labelled = False
        except OSError:
            # The `.json` may hold a label, so the set counts as labelled.
            return True
        return known.labelled

    def _delete(self, day: str, key: str) -> int:
        """Delete a set. Returns 1, or 0 where it could not be deleted or was not known. Raises SnapshotError
        on a read-only file system."""
        known = self._scan.remove(day, key)
        base = self._scan.root / day / key
        try:
            # The `.json` is deleted first, because a set with a `.json` counts as whole.
            for suffix in (".json", ".png", ".jpg"):
                base.with_name(base.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise snapshot_error(self._scan.root, error) from None
            # The other sets are deleted nevertheless, and the next scan finds this one again.
            self._undeleted = snapshot_error(self._scan.root, error)
            return 0
        remove_if_empty(self._scan.root, day, key.split("/")[0])
        return 1 if known is not None else 0
