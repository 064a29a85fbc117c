"""The documents of a recipe's versions on disk: `recipe.json`, which is the newest, and `versions/`.

It knows nothing of weights, and not of which version is in force (`monitor.model.in_force`). A version's
document is never changed. `versions/<number>-<sha>.json` holds the same bytes that `recipe.json` had when the
version was committed; `<sha>` are the first 16 digits of their sha256. Numbers count from 1.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from monitor.model.recipe_json import FILE, RecipeError
from monitor.names import VERSION, join_version
from monitor.system.atomic_file import write_whole
from monitor.system.file_owner import give_to_folders_owner

FOLDER = "versions"
_DOCUMENT = re.compile(rf"({VERSION})-([0-9a-f]{{16}})\.json")


@dataclass(frozen=True, slots=True)
class VersionFile:
    """The document of one version."""

    number: int
    file: Path
    digits: str
    """The first 16 digits of the sha256 of the file's content."""

    @property
    def folder(self) -> Path:
        """The recipe's folder."""
        return find_folder(self.file)

    @property
    def name(self) -> str:
        """`NAME@VERSION`, with the folder's name."""
        return join_version(self.folder.name, self.number)


def find_folder(document: Path) -> Path:
    """The folder of the recipe that a version's document belongs to."""
    return document.parent if document.name == FILE else document.parent.parent


def list_versions(folder: Path) -> list[VersionFile]:
    """All versions of a recipe, oldest first. Raises RecipeError where the folder can't be read.

    The committed `recipe.json` is one of them, also when no copy of it is in `versions/` yet: an earlier
    version of this program wrote it, or a crash followed its commit. It then has the next number.
    """
    return _list_with_newest(folder)[0]


def find_newest(folder: Path) -> VersionFile | None:
    """The version that `recipe.json` holds; None without one. Raises RecipeError."""
    return _list_with_newest(folder)[1]


def _list_with_newest(folder: Path) -> tuple[list[VersionFile], VersionFile | None]:
    kept = list_kept(folder)
    try:
        digits = _first_digits((folder / FILE).read_bytes())
    except FileNotFoundError:
        return kept, None
    except OSError as error:
        raise RecipeError(f"{folder / FILE}: {error.strerror or error}") from None
    if (found := _find_digits(kept, digits)) is not None:
        return kept, found
    newest = VersionFile(_next_number(kept), folder / FILE, digits)
    return [*kept, newest], newest


def list_kept(folder: Path) -> list[VersionFile]:
    """The versions in `versions/`, oldest first. Raises RecipeError where that can't be read."""
    place = folder / FOLDER
    try:
        files = list(place.iterdir()) if place.is_dir() else []
    except OSError as error:
        raise RecipeError(f"{place}: {error.strerror or error}") from None
    found = [
        VersionFile(int(match[1]), file, match[2])
        for file in files
        if (match := _DOCUMENT.fullmatch(file.name))
    ]
    return sorted(found, key=lambda version: (version.number, version.digits))


def find_version(folder: Path, number: int) -> VersionFile:
    """The version of that number. Raises RecipeError."""
    for version in list_versions(folder):
        if version.number == number:
            return version
    raise RecipeError(f"there is no {folder.name}@{number}: `line-monitor recipes list` shows what there is")


def find_number(folder: Path, digits: str) -> int:
    """The number of the version whose sha256 begins with `digits`; the next number for a version that is not
    kept yet."""
    kept = list_kept(folder)
    found = _find_digits(kept, digits)
    return found.number if found else _next_number(kept)


def parse_digits(file: Path) -> str | None:
    """The digits in the name of a document in `versions/`; None for any other path."""
    match = _DOCUMENT.fullmatch(file.name)
    return match[2] if match and file.parent.name == FOLDER else None


def keep_newest(folder: Path) -> VersionFile | None:
    """Copies `recipe.json` to `versions/` unless it is there; None where it is missing or torn. Call it
    within `lock_folder`. Raises OSError."""
    try:
        content = (folder / FILE).read_bytes()
        msgspec.json.decode(content)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    digits, kept = _first_digits(content), list_kept(folder)
    if (found := _find_digits(kept, digits)) is not None:
        return found
    number = _next_number(kept)
    file = folder / FOLDER / f"{number}-{digits}.json"
    if not file.parent.is_dir():
        file.parent.mkdir()
        give_to_folders_owner(file.parent, folder)
    write_whole(file, content)
    return VersionFile(number, file, digits)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Locks a recipe's folder for one change: two changes at once could remove each other's files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _first_digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _find_digits(kept: list[VersionFile], digits: str) -> VersionFile | None:
    return next((version for version in kept if version.digits == digits), None)


def _next_number(kept: list[VersionFile]) -> int:
    return kept[-1].number + 1 if kept else 1
