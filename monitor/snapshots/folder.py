"""The snapshot folder: sets of `.jpg`, `.png` and `.json`, each written whole or not at all.

It knows nothing of cameras or verdicts. `monitor.snapshots.retention` has the rules for deletion, and
`monitor.snapshots.folder_scan` holds the list of sets in the folder. On a frame's way the folder comes last.

Only one thread may write, step and prune. No call takes long, even with 100,000 sets in the folder, so that
the snapshot writer keeps up.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from drivers.image_file import Image
from monitor.settings import SnapshotSettings
from monitor.snapshots.folder_scan import (
    SET_WRITING,
    FolderScan,
    SnapshotError,
    SnapshotSet,
    remove_if_empty,
    snapshot_error,
    split_path,
)
from monitor.snapshots.retention import Retention
from monitor.system.atomic_file import write_together
from monitor.system.retention_clock import RetentionClock

_SCAN_BUDGET_NS = 200_000_000
"""The time after which one `prune` reads no further slice of the folder."""
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 88)
_PNG: tuple[int, ...] = ()
"""Without options OpenCV compresses only runs of equal differences between neighbouring pixels. With a level
it also searches for repetitions, which takes twice the time: a sensor's noise has none."""


class SnapshotFolder:
    """The folder `root`, which is `snapshots/` below the line's data and need not exist yet. The clocks are
    in nanoseconds."""

    def __init__(
        self,
        root: Path,
        settings: SnapshotSettings,
        *,
        utc_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._root = root
        self._monotonic_ns = monotonic_ns
        retention_clock = RetentionClock(utc_ns, monotonic_ns)
        self._scan = FolderScan(root, retention_clock, monotonic_ns)
        self._retention = Retention(self._scan, settings, retention_clock)

    @property
    def total_bytes(self) -> int:
        """The bytes of all snapshots, as far as the folder has been read."""
        return self._scan.total_bytes

    @property
    def count(self) -> int:
        """The number of sets, as far as the folder has been read."""
        return self._scan.count

    def write(self, relative_jpg: str, overlay: Image, frame: Image, payload: dict[str, Any]) -> int:
        """Write one set and return its size in bytes. Older sets are deleted where a limit requires it.

        `relative_jpg` comes from `monitor.verdict.snapshot_path`. `overlay` goes into the `.jpg`. `frame`,
        uint8 (H, W, 3) BGR or (H, W), goes without loss into the `.png`. `payload` with `"labels": []` goes
        into the `.json`, which is written last: a set with a `.json` is whole.
        Raises SnapshotError and leaves nothing of the set behind.
        """
        day, key = split_path(relative_jpg)
        record = json.dumps({**payload, "labels": []}, allow_nan=False, indent=1) + "\n"
        contents = {
            ".jpg": _encoded(".jpg", overlay, _JPEG),
            ".png": _encoded(".png", frame, _PNG),
            ".json": record.encode(),
        }
        sizes = {suffix: len(content) for suffix, content in contents.items()}
        size = sum(sizes.values())
        self._retention.make_room(size)
        base = self._root / day / key
        files = {base.with_name(base.name + suffix): content for suffix, content in contents.items()}
        try:
            base.parent.mkdir(parents=True, exist_ok=True)
            write_together(files, mode=None, prefix=SET_WRITING)
            mtime_ns = base.with_name(f"{base.name}.json").stat().st_mtime_ns
        except OSError as error:
            for file in files:
                with contextlib.suppress(OSError):
                    file.unlink()
            remove_if_empty(self._root, day, key.split("/")[0])
            raise snapshot_error(self._root, error) from None
        self._scan.add(day, key, SnapshotSet(sizes, mtime_ns, labelled=False))
        return size

    def step(self) -> bool:
        """Read one slice of the folder where that is due. Returns True while there is more to read.

        `prune` does this too; a worker with nothing else to do may call it in between. Raises SnapshotError
        at the end of a pass that could not read everything.
        """
        return self._scan.step()

    def prune(self) -> int:
        """Delete the sets that exceed a limit, oldest first. Returns how many sets were deleted.

        Before that it reads the folder where that is due, for about 0.2 s. One call deletes at most 500 sets;
        the next call continues. Raises SnapshotError where the folder could not be read, after the sets have
        been deleted, or where sets could not be deleted.
        """
        unread: SnapshotError | None = None
        until = self._monotonic_ns() + _SCAN_BUDGET_NS
        try:
            while self.step() and self._monotonic_ns() < until:
                pass
        except SnapshotError as error:
            unread = error
        deleted = self._retention.apply()
        if unread is not None:
            raise unread
        return deleted


def _encoded(suffix: str, image: Image, options: tuple[int, ...]) -> bytes:
    done, buffer = cv2.imencode(suffix, image, list(options))
    if not done:
        raise SnapshotError(f"snapshots: an image of {image.shape} can't be written as {suffix}")
    return bytes(buffer)
