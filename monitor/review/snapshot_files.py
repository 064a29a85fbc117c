"""Reads the files of one snapshot by its name, and writes its label.

It knows nothing of HTTP or of the index. This is the only module that turns a name from the network into a
path: the path must never leave the snapshot folder or follow a symbolic link. Writing a label must never
bring back a snapshot that retention has just deleted.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.snapshots.folder_scan import CAMERA, DAY, STEM
from monitor.snapshots.labels import (
    MAX_JSON_BYTES,
    NO_DETAILS,
    LabelEntry,
    SnapshotDetails,
    add_label,
    details_of,
    encode_document,
    parse_document,
)
from monitor.system.atomic_file import write_whole

_MAX_FILE_BYTES = 256 * 1024 * 1024


class NoSuchSnapshot(LineMonitorError):
    """The snapshot does not exist, or no longer."""


@dataclass(frozen=True, slots=True)
class Key:
    """A snapshot's checked name. Names from outside come in through `parse`."""

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
        """The sort key: snapshots in order of time."""
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


def find_key(picture: str | None) -> Key | None:
    """The snapshot whose picture has that path, which ends with `DAY/CAMERA/STEM.jpg` or the like; None where
    it has none."""
    path = Path(picture or "")
    try:
        return Key.parse(path.parent.parent.name, path.parent.name, path.stem)
    except NoSuchSnapshot:
        return None


class SnapshotFiles:
    """The snapshot folder, which need not exist yet. Safe for several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writing = threading.Lock()

    def read(self, key: Key, suffix: str, max_bytes: int = _MAX_FILE_BYTES) -> bytes:
        """The bytes of one file of the snapshot.

        Raises NoSuchSnapshot when the file is missing or larger than `max_bytes`.
        """
        file_path = self._folder(key) / f"{key.stem}{suffix}"
        try:
            # O_NONBLOCK: opening a pipe of that name would block for ever.
            handle = os.open(file_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            raise NoSuchSnapshot from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise NoSuchSnapshot
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(max_bytes + 1)
        except OSError:
            raise NoSuchSnapshot from None
        finally:
            os.close(handle)
        if len(content) > max_bytes:
            raise NoSuchSnapshot
        return content

    def details(self, key: Key) -> SnapshotDetails:
        """The details in the snapshot's `.json`; NO_DETAILS where it can't be read."""
        try:
            return details_of(parse_document(self.read(key, ".json", MAX_JSON_BYTES)))
        except (NoSuchSnapshot, ValueError):
            return NO_DETAILS

    def label(self, key: Key, entry: LabelEntry | None) -> SnapshotDetails:
        """Adds a label to the snapshot's `.json`, or removes all with None, and returns the new details.

        Raises NoSuchSnapshot, OSError, and ValueError where the `.json` is damaged.
        """
        with self._writing:
            document = add_label(parse_document(self.read(key, ".json", MAX_JSON_BYTES)), entry)
            folder = self._folder(key)
            file = folder / f"{key.stem}.json"
            write_whole(file, encode_document(document))
            if not any((folder / f"{key.stem}{suffix}").exists() for suffix in (".jpg", ".png")):
                # Retention deleted the snapshot meanwhile: its `.json` must not come back alone.
                file.unlink(missing_ok=True)
                raise NoSuchSnapshot
        return details_of(document)

    def _folder(self, key: Key) -> Path:
        """Raises NoSuchSnapshot when a symbolic link would lead elsewhere."""
        folder = self.root / key.day / key.camera
        if (self.root / key.day).is_symlink() or folder.is_symlink():
            raise NoSuchSnapshot
        return folder
