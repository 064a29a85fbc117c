"""Lists the images of an archive: snapshot folders, other folders, files, patterns, lists, and object stores.

It knows nothing of recipes. It holds one folder's entries at most, so that an archive of any size can be
listed. A snapshot's `.jpg` is the operator's picture: the frame that was scored is the `.png` beside it, and
only that is listed.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from drivers.image_name import is_folder_of_images, is_image
from monitor.fleet.fleet_error import FleetError, require_packages
from monitor.snapshots.folder_scan import CAMERA, DAY, FILE

LIST = ".txt"
_PATTERN = frozenset("*?[")
_STORE = "://"


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """One image of an archive."""

    image: str
    """Its path, or its URL in an object store."""
    captured_utc: str | None = None
    """RFC 3339; None where the path is not a snapshot's."""
    camera: str | None = None


def describe_image(image: str) -> ArchiveImage | None:
    """The image with what its path says; None for the operator's picture of a snapshot."""
    parts = PurePosixPath(image).parts[-3:]
    if len(parts) < 3:
        return ArchiveImage(image)
    day, camera, name = parts
    found = FILE.fullmatch(name)
    if found is None or not (DAY.fullmatch(day) and CAMERA.fullmatch(camera)):
        return ArchiveImage(image)
    if found["suffix"] == ".jpg":
        return None
    clock = found["clock"]
    time = f"{clock[:2]}:{clock[2:4]}:{clock[4:6]}.{clock[6:]}"
    return ArchiveImage(image, f"{day}T{time}Z", camera)


def list_archive(places: Iterable[str], cameras: Collection[str] = ()) -> Iterator[ArchiveImage]:
    """The images in these places; of `cameras` alone where some are named. Raises FleetError."""
    for place in places:
        empty = True
        for path in _list_place(place):
            image = describe_image(path)
            if image is not None and (not cameras or image.camera in cameras):
                empty = False
                yield image
        if empty:
            of_cameras = f" of {', '.join(sorted(cameras))}" if cameras else ""
            raise FleetError(f"--archive {place}: no images{of_cameras} there: check the path")


def _list_place(place: str) -> Iterator[str]:
    if _STORE in place:
        yield from _list_store(place)
    elif _PATTERN & set(place) and not Path(place).exists():
        # Path.glob would need the pattern's fixed part apart.
        for found in glob.iglob(place, recursive=True):  # noqa: PTH207
            yield from _list_path(Path(found).absolute())
    else:
        yield from _list_path(Path(place).absolute())


def _list_path(path: Path) -> Iterator[str]:
    """The images at a local path: of a folder at any depth, of a list the lines."""
    if path.is_dir():
        yield from _walk(path)
    elif path.suffix == LIST and path.is_file():
        try:
            with path.open(encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    if entry := line.rstrip("\n"):
                        yield entry if _STORE in entry else str(path.parent / entry)
        except OSError as error:
            raise FleetError(f"--archive {path}: {error.strerror or error}") from None
    elif path.exists():
        yield str(path)
    else:
        raise FleetError(f"--archive {path}: no such file or folder: check the path")


def _walk(folder: Path) -> Iterator[str]:
    """The images of a folder at any depth, unsorted; links to folders are not followed."""
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if is_folder_of_images(entry.name):
                            waiting.append(entry.path)
                    elif is_image(entry.name):
                        yield entry.path
        except OSError as error:
            raise FleetError(f"--archive {place}: {error.strerror or error}") from None


def _list_store(url: str) -> Iterator[str]:
    """The images below a URL, or those that a pattern names."""
    store, path = open_store(url)
    try:
        if _PATTERN & set(path):
            names: Iterable[str] = store.glob(path)
        elif store.isfile(path):
            names = [path]
        else:
            names = _walk_store(store, path)
        for name in names:
            if is_image(PurePosixPath(name).name):
                yield str(store.unstrip_protocol(name))
    except OSError as error:
        raise FleetError(f"--archive {url}: {error.strerror or error}") from None


def _walk_store(store: Any, path: str) -> Iterator[str]:
    for folder, folders, files in store.walk(path):
        folders[:] = [name for name in folders if is_folder_of_images(name)]
        for name in files:
            yield f"{folder}/{name}"


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises FleetError."""
    require_packages("fsspec")
    import fsspec.core

    scheme = url.partition(_STORE)[0]
    try:
        store, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise FleetError(
            f"{scheme}://: {first}: install the package of fsspec for it on every node"
        ) from None
    return store, str(path)


def read_image_bytes(image: str) -> bytes:
    """The bytes of an image's file. Raises ImageError where it can't be read."""
    from drivers.image_file import ImageError, read_bytes

    if _STORE not in image:
        return read_bytes(Path(image))
    try:
        store, path = open_store(image)
        content: bytes = store.cat_file(path)
    except (OSError, FleetError) as error:
        raise ImageError(str(error)) from None
    return content
