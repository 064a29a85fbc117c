"""A labelled set in MVTec AD's layout, file by file, from a folder or straight from its archive.

An archive is read from front to back, whatever the order in it, and nothing is unpacked: names in it are
labels, never paths, so that nothing in it can reach outside. Must never look into an image, nor hold more
than one file's bytes.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

from drivers import image_file
from drivers.image_file import ImageError
from monitor.errors import LineMonitorError

LAYOUT = "a data set has test/good, test/<type> and ground_truth/<type>, for one category or in a folder each"

_TRAIN = "train"
_LARGEST = 512 * 2**20
"""Bytes of one file; more is no image, and would fill the memory."""
_MB = 1_000_000
_STREAMS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\xfd7zXZ\x00": lambda raw: cast("IO[bytes]", lzma.LZMAFile(raw)),  # noqa: SIM115
    b"\x1f\x8b": lambda raw: cast("IO[bytes]", gzip.GzipFile(fileobj=raw)),
    b"BZh": lambda raw: cast("IO[bytes]", bz2.BZ2File(raw)),
}
_ZIP = b"PK"


class DatasetError(LineMonitorError):
    """The data set can't be read; the message is one line with the fix."""


class Part(Enum):
    """What a file is for."""

    IMAGE = "test"
    MASK = "ground_truth"


@dataclass(frozen=True, slots=True)
class Place:
    """Which file of the layout it is."""

    category: tuple[str, ...]
    """The folders above test/ and ground_truth/; empty where these lie at the top."""
    part: Part
    name: PurePosixPath
    """Below test/ or ground_truth/; its first folder is the type."""

    @property
    def kind(self) -> str:
        """The type of defect, or `good`."""
        return self.name.parts[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """One image or mask."""

    place: Place
    shown: str
    """For people."""
    content: Callable[[], bytes]
    """Its bytes, to be had until the next entry is. Raises ImageError if only this file can't be read,
    DatasetError if the archive is damaged."""
    done: int
    total: int
    """How far reading has come; of an archive that is read front to back in MB."""
    unit: str = ""


def entries(dataset: Path) -> Iterator[Entry]:
    """Every image of test/ and mask of ground_truth/, a category at a time where the order is ours to choose.

    `dataset` is a folder or a tar, tar.xz, tar.gz, tar.bz2 or zip archive, of one category or of many. Files
    that are not named like images, hidden ones and symbolic links in archives are left out; a hard link in a
    tar is the file it stands for, which takes a second reading. Raises DatasetError.
    """
    if dataset.is_dir():
        return _of_folder(dataset)
    try:
        with dataset.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DatasetError(f"{dataset}: {error.strerror or error}; {LAYOUT}") from None
    if start.startswith(_ZIP):
        return _of_zip(dataset)
    opener = next((opener for magic, opener in _STREAMS.items() if start.startswith(magic)), None)
    if opener is None and not tarfile.is_tarfile(dataset):
        raise DatasetError(f"{dataset}: neither a folder nor a tar, tar.xz, tar.gz, tar.bz2 or zip archive")
    return _of_tar(dataset, opener or (lambda raw: raw))


def placed(name: str) -> Place | None:
    """What a path inside a data set stands for; None for what is no labelled image."""
    path = PurePosixPath(name)
    parts = path.parts
    if path.is_absolute() or ".." in parts or any(part.startswith(".") for part in parts):
        return None
    if path.suffix.lower() not in image_file.SUFFIXES:
        return None
    rooms = [part.value for part in Part]
    at = next((i for i, part in enumerate(parts) if part in (*rooms, _TRAIN)), None)
    # A file needs a type's folder between the room and itself.
    if at is None or parts[at] == _TRAIN or len(parts) < at + 3:
        return None
    return Place(parts[:at], Part(parts[at]), PurePosixPath(*parts[at + 1 :]))


def _of_folder(root: Path) -> Iterator[Entry]:
    found: list[tuple[Path, Place]] = []
    for category in _categories(root):
        for part in Part:
            folder = category / part.value
            if not folder.is_dir():
                continue
            try:
                files = image_file.find(folder)
            except ImageError as error:
                raise DatasetError(f"{folder}: {error}; {LAYOUT}") from None
            above = category.relative_to(root).parts
            found += [
                (file, Place(above, part, PurePosixPath(*inside)))
                for file in files
                if len(inside := file.relative_to(folder).parts) > 1
            ]
    for done, (file, place) in enumerate(found, start=1):
        yield Entry(place, str(file), partial(_file_content, file), done, len(found))


def _categories(root: Path) -> list[Path]:
    """The folders that hold test/: the root, else its folders, else those of its folders."""
    for pattern in ("test", "*/test", "*/*/test"):
        held = [
            folder.parent
            for folder in sorted(root.glob(pattern))
            if folder.is_dir() and not any(p.startswith(".") for p in folder.relative_to(root).parts)
        ]
        if held:
            return held
    raise DatasetError(f"{root}: no folder test in it; {LAYOUT}")


def _file_content(file: Path) -> bytes:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None
    if size > _LARGEST:
        raise _too_large()
    return image_file.content_of(file)


class _Member(tarfile.TarInfo):
    """Takes a damaged header for damage: by itself, tarfile takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _of_tar(file: Path, opener: Callable[[IO[bytes]], IO[bytes]]) -> Iterator[Entry]:
    total = max(1, file.stat().st_size // _MB)
    linked: dict[PurePosixPath, list[tuple[str, Place]]] = {}
    for archive, member, done in _members(file, opener):
        place = placed(member.name)
        if place is not None and member.islnk():
            linked.setdefault(PurePosixPath(member.linkname), []).append((member.name, place))
        elif place is not None and member.isfile():
            read = _reader(file, member.size, partial(_stored, archive, member))
            yield Entry(place, f"{file}: {member.name}", read, min(done, total), total, "MB")
    if not linked:
        return
    # tar stores a file with two names once: what the second name stands for went by before.
    for archive, member, _ in _members(file, opener):
        links = linked.pop(PurePosixPath(member.name), []) if member.isfile() else []
        # A stream gives a file's bytes once.
        read = cache(_reader(file, member.size, partial(_stored, archive, member)))
        for name, place in links:
            yield Entry(place, f"{file}: {name}", read, total, total, "MB")
    for target, links in linked.items():
        for name, place in links:
            yield Entry(place, f"{file}: {name}", partial(_missing, target), total, total, "MB")


def _members(
    file: Path, opener: Callable[[IO[bytes]], IO[bytes]]
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, int]]:
    """What is in the archive, in its order, and how many MB of it were read. Raises DatasetError."""
    # As a stream, since an archive that is compressed as a whole can only be read forwards.
    with _damage_named(file), file.open("rb") as raw, opener(raw) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            for member in archive:
                yield archive, member, raw.tell() // _MB
        # The checksum stands at the very end.
        while stream.read(_MB):
            pass


def _missing(target: PurePosixPath) -> bytes:
    raise ImageError(f"a link to {target}, which is not in the archive: pack it again")


def _stored(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    held = archive.extractfile(member)
    assert held is not None  # it is a file
    return held.read()


def _of_zip(file: Path) -> Iterator[Entry]:
    with _damage_named(file), zipfile.ZipFile(file) as archive:
        found = [
            (member, place)
            for member in sorted(archive.infolist(), key=lambda member: member.filename)
            # Some programs on Windows write their own separator.
            if (place := placed(member.filename.replace("\\", "/"))) is not None
            and not stat.S_ISLNK(member.external_attr >> 16)
        ]
        for done, (member, place) in enumerate(found, start=1):
            if member.flag_bits & 1:
                raise DatasetError(f"{file}: encrypted: unpack it and give the folder")
            read = _reader(file, member.file_size, partial(archive.read, member))
            yield Entry(place, f"{file}: {member.filename}", read, done, len(found))


def _reader(file: Path, size: int, read: Callable[[], bytes]) -> Callable[[], bytes]:
    def content() -> bytes:
        if size > _LARGEST:
            raise _too_large()
        with _damage_named(file):
            return read()

    return content


def _too_large() -> ImageError:
    return ImageError(f"larger than {_LARGEST // 2**20} MiB")


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        NotImplementedError,
        OSError,
    ) as error:
        raise DatasetError(f"{file}: the archive is damaged ({error}): copy or download it again") from None


def label(category: Iterable[str]) -> str:
    """A category's name for people and for its recipe: the innermost folder; empty for the top."""
    return next(iter(reversed(tuple(category))), "")
