"""The pictures from which people teach one recipe: good parts and known defects, as files in a folder.

It knows nothing of cameras or trainings. The folder is the truth: files that are added or deleted by hand
count. Names from the network become paths here alone.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from drivers.image_file import Image
from drivers.image_name import is_image
from monitor import paths
from monitor.capture.collect import save_image
from monitor.errors import LineMonitorError
from monitor.model.image_mark import content_mark
from monitor.names import check_name
from monitor.settings import Settings
from monitor.system.atomic_file import write_whole

MOST_PICTURES = 2000
"""The most pictures of good parts of one recipe."""
MOST_DEFECTS = 500
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_GB = 1e9
_RESERVE_GB = 0.5


class TeachingError(LineMonitorError):
    """A recipe can't be taught. The message is one line with the reason and the fix."""


class PictureKind(StrEnum):
    """What a picture shows: the name of its folder."""

    GOOD = "good"
    DEFECT = "defects"


@dataclass(frozen=True, slots=True)
class TeachingFolder:
    """The folder of one recipe, which need not exist yet."""

    root: Path
    min_free_gb: float
    """Disk space that stays free."""

    @staticmethod
    def of(settings: Settings, recipe: str) -> TeachingFolder:
        """Raises InvalidNameError for a name that could lead to another folder."""
        return TeachingFolder(paths.teaching(settings) / check_name(recipe), settings.snapshots.min_free_gb)

    def place(self, kind: PictureKind) -> Path:
        """The folder of the pictures of that kind."""
        return self.root / kind.value

    def list_names(self, kind: PictureKind) -> Sequence[str]:
        """The names of the pictures, oldest first. Raises TeachingError."""
        place = self.place(kind)
        try:
            entries = list(os.scandir(place)) if place.is_dir() else []
        except OSError as error:
            raise TeachingError(f"{place} can't be read: {error.strerror}") from None
        return sorted(
            entry.name for entry in entries if is_image(entry.name) and entry.is_file(follow_symlinks=False)
        )

    def find(self, kind: PictureKind, name: str) -> Path:
        """The file of a picture that is there. Raises TeachingError."""
        file = self.place(kind) / name
        if not _NAME.fullmatch(name) or not is_image(name) or file.is_symlink() or not file.is_file():
            raise TeachingError("there is no such picture")
        return file

    def add(self, kind: PictureKind, name: str, image: Image) -> Path:
        """Saves a picture, uint8 (H, W, 3) BGR or (H, W), lossless. Raises TeachingError and CollectError."""
        file = self._make_room(kind) / name
        save_image(image, file)
        return file

    def copy(self, kind: PictureKind, name: str, content: bytes) -> None:
        """Saves the content of a picture's file; a picture of that name is replaced. Raises TeachingError."""
        file = self._make_room(kind) / name
        try:
            write_whole(file, content, mode=None)
        except OSError as error:
            raise TeachingError(f"can't write {file}: {error.strerror}") from None

    def find_copies(self, kind: PictureKind, content: bytes) -> list[str]:
        """The names of the pictures whose files have this content. Raises TeachingError."""
        mark, found = content_mark(content), []
        for name in self.list_names(kind):
            file = self.place(kind) / name
            try:
                if file.stat().st_size == len(content) and content_mark(file.read_bytes()) == mark:
                    found.append(name)
            except OSError as error:
                raise TeachingError(f"{file} can't be read: {error.strerror}") from None
        return found

    def add_defect(self, name: str, content: bytes) -> int:
        """Saves a known defect's file, and removes the same image from the good parts: no training takes an
        image that is both. Returns how many were removed. Raises TeachingError."""
        copies = self.find_copies(PictureKind.GOOD, content)
        self.copy(PictureKind.DEFECT, name, content)
        for copy in copies:
            self.remove(PictureKind.GOOD, copy)
        return len(copies)

    def remove(self, kind: PictureKind, name: str) -> None:
        """Deletes a picture. Raises TeachingError."""
        file = self.find(kind, name)
        try:
            file.unlink()
        except OSError as error:
            raise TeachingError(f"can't delete {file}: {error.strerror}") from None

    def check_space(self, wanted: int = 0) -> None:
        """Raises TeachingError when the disk has less free space than the settings ask for, and when `wanted`
        bytes more would leave less, with a reserve for what the line writes meanwhile."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.root).free / _GB
        except OSError as error:
            raise TeachingError(f"can't make {self.root}: {error.strerror}") from None
        setting = f"snapshots.min_free_gb = {self.min_free_gb:g}"
        if free < self.min_free_gb:
            raise TeachingError(
                f"the disk has {free:.1f} GB free, less than {setting}: delete what is not needed"
            )
        if wanted and free < self.min_free_gb + wanted / _GB + _RESERVE_GB:
            raise TeachingError(
                f"so many images may take {wanted / _GB:.1f} GB, and of {free:.1f} GB that are free "
                f"{_RESERVE_GB:g} GB and {setting} stay free: collect fewer, or delete what is not needed"
            )

    def _make_room(self, kind: PictureKind) -> Path:
        """The folder of that kind, with space for one more picture. Raises TeachingError."""
        self.check_space()
        most = MOST_PICTURES if kind is PictureKind.GOOD else MOST_DEFECTS
        if len(self.list_names(kind)) >= most:
            raise TeachingError(f"there are {most} pictures, the most that are kept: remove some first")
        place = self.place(kind)
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise TeachingError(f"can't make {place}: {error.strerror}") from None
        return place
