"""The files of one snapshot, found by name: opened for reading, and its label written.

The one place where a name that came over the network becomes a path. It must never lead out of the snapshot
folder, follow a symbolic link, or bring back a snapshot that retention has just deleted.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.review.labels import MOST_BYTES, UNKNOWN, About, Said, about, decoded, encoded, labelled
from monitor.snapshots.folder_scan import CAMERA, DAY, STEM
from monitor.system.atomic_file import write_whole

_MOST_PICTURE_BYTES = 256 * 1024 * 1024


class NoSuchSnapshot(LineMonitorError):
    """There is no such snapshot (any more)."""


@dataclass(frozen=True, slots=True)
class Key:
    """A snapshot's name, which can't be anything but one: `parse` is the way to have one."""

    day: str
    camera: str
    stem: str

    @staticmethod
    def parse(day: str, camera: str, stem: str) -> Key:
        """Raises NoSuchSnapshot."""
        if not (DAY.fullmatch(day) and CAMERA.fullmatch(camera) and STEM.fullmatch(stem)):
            raise NoSuchSnapshot
        return Key(day, camera, stem)

    @property
    def path(self) -> str:
        return f"{self.day}/{self.camera}/{self.stem}"

    @property
    def order(self) -> tuple[str, str]:
        """Sorts by time."""
        return self.day, self.stem

    @property
    def frame(self) -> int:
        return int(self.stem.split("_")[2])

    @property
    def score(self) -> float:
        return float(self.stem.rpartition("_")[2])

    @property
    def clock(self) -> str:
        """HH:MM:SS, UTC."""
        return f"{self.stem[:2]}:{self.stem[2:4]}:{self.stem[4:6]}"


class SnapshotFiles:
    """The snapshot folder, which need not exist yet. For several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writing = threading.Lock()

    def read(self, key: Key, suffix: str, most: int = _MOST_PICTURE_BYTES) -> bytes:
        """The bytes of one of its files. Raises NoSuchSnapshot when it isn't there or too large to be one."""
        place = self._folder(key) / f"{key.stem}{suffix}"
        try:
            # A pipe of that name would keep its reader waiting for ever.
            handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            raise NoSuchSnapshot from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise NoSuchSnapshot
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(most + 1)
        except OSError:
            raise NoSuchSnapshot from None
        finally:
            os.close(handle)
        if len(content) > most:
            raise NoSuchSnapshot
        return content

    def about(self, key: Key) -> About:
        """What stands in its `.json`; UNKNOWN where that can't be read."""
        try:
            return about(decoded(self.read(key, ".json", MOST_BYTES)))
        except (NoSuchSnapshot, ValueError):
            return UNKNOWN

    def label(self, key: Key, said: Said | None) -> About:
        """Writes what a person says, or that nobody says anything, and returns what stands there now.

        Raises NoSuchSnapshot, OSError, and ValueError where its `.json` is damaged.
        """
        with self._writing:
            document = labelled(decoded(self.read(key, ".json", MOST_BYTES)), said)
            folder = self._folder(key)
            file = folder / f"{key.stem}.json"
            write_whole(file, encoded(document))
            if not any((folder / f"{key.stem}{suffix}").exists() for suffix in (".jpg", ".png")):
                # Retention deleted it meanwhile: a lone `.json` would be a ghost.
                file.unlink(missing_ok=True)
                raise NoSuchSnapshot
        return about(document)

    def _folder(self, key: Key) -> Path:
        """Raises NoSuchSnapshot when a link would lead elsewhere."""
        folder = self.root / key.day / key.camera
        if (self.root / key.day).is_symlink() or folder.is_symlink():
            raise NoSuchSnapshot
        return folder
