"""The images from which people teach one recipe: good parts and known defects, as files in a folder.

It knows nothing of cameras or trainings. The folder is the truth: files that are added or deleted by hand
count. Names from the network become paths here alone.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from drivers.image_name import is_image
from monitor import paths
from monitor.errors import LineMonitorError
from monitor.model.image_mark import content_mark
from monitor.names import check_name
from monitor.settings import Settings
from monitor.system.atomic_file import write_whole

MOST_IMAGES = 2000
"""The most images of good parts of one recipe."""
MOST_DEFECTS = 500
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_GB = 1e9
_RESERVE_GB = 0.5
_REMOVED = "removed"
"""The folder of the images that were removed last, which a person can bring back."""


class TeachingError(LineMonitorError):
    """A recipe can't be taught. The message is one line with the reason and the fix."""


class ImageKind(StrEnum):
    """What an image shows: the name of its folder."""

    GOOD = "good"
    DEFECT = "defects"


def most_images(kind: ImageKind) -> int:
    """The most images of that kind that one recipe keeps."""
    return MOST_IMAGES if kind is ImageKind.GOOD else MOST_DEFECTS


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

    def place(self, kind: ImageKind) -> Path:
        """The folder of the images of that kind."""
        return self.root / kind.value

    def list_names(self, kind: ImageKind) -> Sequence[str]:
        """The names of the images, oldest first. Raises TeachingError."""
        return _list_images(self.place(kind))

    def find(self, kind: ImageKind, name: str) -> Path:
        """The file of an image that is there. Raises TeachingError."""
        file = self.place(kind) / name
        if not _NAME.fullmatch(name) or not is_image(name) or file.is_symlink() or not file.is_file():
            raise TeachingError("there is no such image")
        return file

    def copy(self, kind: ImageKind, name: str, content: bytes) -> None:
        """Saves the content of an image's file; an image of that name is replaced. Raises TeachingError."""
        file = self._make_room(kind) / name
        try:
            write_whole(file, content, mode=None)
        except OSError as error:
            raise TeachingError(f"can't write {file}: {error.strerror}") from None

    def find_copies(self, kind: ImageKind, content: bytes) -> list[str]:
        """The names of the images whose files have this content. Raises TeachingError."""
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
        """Saves a known defect's file, and deletes the same image among the good parts: no training takes an
        image that is both. Returns how many were deleted. Raises TeachingError."""
        self.copy(ImageKind.DEFECT, name, content)
        return self.delete_copies(ImageKind.GOOD, content)

    def delete_copies(self, kind: ImageKind, content: bytes) -> int:
        """Deletes the images with this content. Returns their number. Raises TeachingError."""
        copies = self.find_copies(kind, content)
        for name in copies:
            _delete(self.find(kind, name))
        return len(copies)

    def remove(self, kind: ImageKind, names: Iterable[str]) -> None:
        """Removes images; `restore_removed` brings them back until others are removed, or
        `discard_removed`. Raises TeachingError."""
        files = [self.find(kind, name) for name in names]
        self.discard_removed()
        place = self.root / _REMOVED / kind.value
        try:
            place.mkdir(parents=True, exist_ok=True)
            for file in files:
                file.replace(place / file.name)
        except OSError as error:
            raise TeachingError(f"can't remove images of {self.place(kind)}: {error.strerror}") from None

    def list_removed(self) -> Mapping[ImageKind, Sequence[str]]:
        """The names of the images that can be brought back, oldest first. Raises TeachingError."""
        return {kind: _list_images(self.root / _REMOVED / kind.value) for kind in ImageKind}

    def restore_removed(self) -> int:
        """Brings the images back that were removed last, except those that are of the other kind by now or
        whose name is taken. Returns how many came back. Raises TeachingError."""
        restored = 0
        for kind, names in self.list_removed().items():
            other = ImageKind.GOOD if kind is ImageKind.DEFECT else ImageKind.DEFECT
            for name in names:
                file = self.root / _REMOVED / kind.value / name
                try:
                    if (self.place(kind) / name).exists() or self.find_copies(other, file.read_bytes()):
                        continue
                    # The image is on this disk already: it takes no space.
                    file.replace(self._make_place(kind) / name)
                except OSError as error:
                    raise TeachingError(f"can't bring {file} back: {error.strerror}") from None
                restored += 1
        self.discard_removed()
        return restored

    def discard_removed(self) -> None:
        """Deletes the images that were removed last. Raises TeachingError."""
        for kind, names in self.list_removed().items():
            for name in names:
                _delete(self.root / _REMOVED / kind.value / name)

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

    def _make_room(self, kind: ImageKind) -> Path:
        """The folder of that kind, with disk space for one more image. Raises TeachingError."""
        self.check_space()
        return self._make_place(kind)

    def _make_place(self, kind: ImageKind) -> Path:
        """The folder of that kind, where one more image may be. Raises TeachingError."""
        most = most_images(kind)
        if len(self.list_names(kind)) >= most:
            raise TeachingError(f"there are {most} images, the most that are kept: remove some first")
        place = self.place(kind)
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise TeachingError(f"can't make {place}: {error.strerror}") from None
        return place


def _list_images(place: Path) -> Sequence[str]:
    """The names of the images in a folder, which need not exist. Raises TeachingError."""
    try:
        entries = list(os.scandir(place)) if place.is_dir() else []
    except OSError as error:
        raise TeachingError(f"{place} can't be read: {error.strerror}") from None
    return sorted(
        entry.name for entry in entries if is_image(entry.name) and entry.is_file(follow_symlinks=False)
    )


def _delete(file: Path) -> None:
    """Raises TeachingError."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise TeachingError(f"can't delete {file}: {error.strerror}") from None
