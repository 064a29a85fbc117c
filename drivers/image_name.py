"""The one rule for which files of a folder are images, by their names. It reads no file.

The folder camera, training, scoring, calibration and evaluation use it. Files that systems and programs leave
beside images are no parts: hidden files such as `._x.png` of macOS, and unfinished uploads such as
`x.png.part`, which have another suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_LEFTOVER_FOLDERS = frozenset(
    {
        "__macosx",  # archives that macOS packs
        "@eadir",  # thumbnails of a Synology server
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)
_OFFICE_LOCK = "~$"


def is_image(name: str) -> bool:
    """Whether a file of that name is an image: it has an image's suffix and is not a leftover."""
    return PurePath(name).suffix.lower() in SUFFIXES and not name.startswith((".", _OFFICE_LOCK))


def is_folder_of_images(name: str) -> bool:
    """Whether images are looked for in a folder of that name, below the folder that was given."""
    return not name.startswith(".") and name.lower() not in _LEFTOVER_FOLDERS


def is_image_path(parts: Sequence[str]) -> bool:
    """The same rule for a path below the folder that was given: folders, then the file's name."""
    return bool(parts) and is_image(parts[-1]) and all(map(is_folder_of_images, parts[:-1]))
