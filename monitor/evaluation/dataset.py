"""A labelled data set in MVTec AD's layout, file by file, from a folder or an archive.

An archive is read from front to back, whatever its order, and is not unpacked. Its names are used as labels
and never as paths, so that no name in it can reach a file outside. At most one file's bytes are in memory.
This module knows nothing of what is in an image.
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
"""The largest file in bytes. A larger one is not an image, and could fill the memory."""
_MB = 1_000_000
_STREAMS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\xfd7zXZ\x00": lambda raw: cast("IO[bytes]", lzma.LZMAFile(raw)),  # noqa: SIM115
    b"\x1f\x8b": lambda raw: cast("IO[bytes]", gzip.GzipFile(fileobj=raw)),
    b"BZh": lambda raw: cast("IO[bytes]", bz2.BZ2File(raw)),
}
_ZIP = b"PK"


class DatasetError(LineMonitorError):
    """The data set can't be read. The message is one line with the fix."""


class FileKind(Enum):
    """What a file of a data set is; the values are the folders' names in MVTec AD's layout."""

    IMAGE = "test"
    MASK = "ground_truth"


@dataclass(frozen=True, slots=True)
class LabelledPath:
    """A file's path in the layout, taken apart."""

    category: tuple[str, ...]
    """The folders above test/ and ground_truth/; empty where these lie at the top."""
    kind: FileKind
    name: PurePosixPath
    """The path below test/ or ground_truth/; its first folder is the type."""

    @property
    def defect_type(self) -> str:
        """The type of defect, or `good`."""
        return self.name.parts[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """One image or mask."""

    path: LabelledPath
    shown_name: str
    """The file's name for messages."""
    content: Callable[[], bytes]
    """Reads its bytes; to be called before the next entry is taken. Raises ImageError if only this file can't
    be read, DatasetError if the archive is damaged."""
    done: int
    total: int
    """Progress: the number of this file and of all files, or MB of an archive that is read front to back."""
    unit: str = ""


def list_entries(dataset: Path) -> Iterator[Entry]:
    """Every image of test/ and mask of ground_truth/; in a folder or a zip, one category after the other.

    `dataset` is a folder or a tar, tar.xz, tar.gz, tar.bz2 or zip archive, of one category or of many. Files
    without an image's suffix, hidden files and symbolic links in archives are left out. A hard link in a tar
    is the file that it links to; such archives are read twice. Raises DatasetError.
    """
    if dataset.is_dir():
        return _list_folder(dataset)
    try:
        with dataset.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DatasetError(f"{dataset}: {error.strerror or error}; {LAYOUT}") from None
    if start.startswith(_ZIP):
        return _list_zip(dataset)
    opener = next((opener for magic, opener in _STREAMS.items() if start.startswith(magic)), None)
    if opener is None and not tarfile.is_tarfile(dataset):
        raise DatasetError(f"{dataset}: neither a folder nor a tar, tar.xz, tar.gz, tar.bz2 or zip archive")
    return _list_tar(dataset, opener or (lambda raw: raw))


def parse_path(name: str) -> LabelledPath | None:
    """The parts of a path inside a data set; None for a file that is not a labelled image or mask."""
    path = PurePosixPath(name)
    parts = path.parts
    if path.is_absolute() or ".." in parts or any(part.startswith(".") for part in parts):
        return None
    if path.suffix.lower() not in image_file.SUFFIXES:
        return None
    kinds = [kind.value for kind in FileKind]
    at = next((i for i, part in enumerate(parts) if part in (*kinds, _TRAIN)), None)
    # At least the type's folder lies between test/ or ground_truth/ and the file.
    if at is None or parts[at] == _TRAIN or len(parts) < at + 3:
        return None
    return LabelledPath(parts[:at], FileKind(parts[at]), PurePosixPath(*parts[at + 1 :]))


def _list_folder(root: Path) -> Iterator[Entry]:
    found: list[tuple[Path, LabelledPath]] = []
    for category in _categories(root):
        for kind in FileKind:
            folder = category / kind.value
            if not folder.is_dir():
                continue
            try:
                files = image_file.find(folder)
            except ImageError as error:
                raise DatasetError(f"{folder}: {error}; {LAYOUT}") from None
            above = category.relative_to(root).parts
            found += [
                (file, LabelledPath(above, kind, PurePosixPath(*inside)))
                for file in files
                if len(inside := file.relative_to(folder).parts) > 1
            ]
    for done, (file, path) in enumerate(found, start=1):
        yield Entry(path, str(file), partial(_read_file, file), done, len(found))


def _categories(root: Path) -> list[Path]:
    """The folders that hold test/: the root, else folders in it, else folders in those. Raises
    DatasetError."""
    for pattern in ("test", "*/test", "*/*/test"):
        categories = [
            folder.parent
            for folder in sorted(root.glob(pattern))
            if folder.is_dir() and not any(p.startswith(".") for p in folder.relative_to(root).parts)
        ]
        if categories:
            return categories
    raise DatasetError(f"{root}: no folder test in it; {LAYOUT}")


def _read_file(file: Path) -> bytes:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None
    _check_size(size)
    return image_file.read_bytes(file)


class _Member(tarfile.TarInfo):
    """A member whose damaged header is an error: tarfile itself takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _list_tar(file: Path, opener: Callable[[IO[bytes]], IO[bytes]]) -> Iterator[Entry]:
    total = max(1, file.stat().st_size // _MB)
    links: dict[PurePosixPath, list[tuple[str, LabelledPath]]] = {}
    for archive, member, done in _members(file, opener):
        path = parse_path(member.name)
        if path is not None and member.islnk():
            links.setdefault(PurePosixPath(member.linkname), []).append((member.name, path))
        elif path is not None and member.isfile():
            content = _reader(file, member.size, partial(_read_member, archive, member))
            yield Entry(path, f"{file}: {member.name}", content, min(done, total), total, "MB")
    if not links:
        return
    # tar stores a file with two names once, under the first; the second name is a link back, to bytes that
    # the stream has passed. So the archive is read again.
    for archive, member, _ in _members(file, opener):
        names = links.pop(PurePosixPath(member.name), []) if member.isfile() else []
        # Cached, since a stream gives a file's bytes only once and the file may have several links.
        content = cache(_reader(file, member.size, partial(_read_member, archive, member)))
        for name, path in names:
            yield Entry(path, f"{file}: {name}", content, total, total, "MB")
    for target, names in links.items():
        for name, path in names:
            yield Entry(path, f"{file}: {name}", partial(_read_broken_link, target), total, total, "MB")


def _members(
    file: Path, opener: Callable[[IO[bytes]], IO[bytes]]
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, int]]:
    """The archive's members in its order, and how many MB of it are read. Raises DatasetError."""
    # Read as a stream: an archive that is compressed as a whole can only be read forwards.
    with _damage_as_dataset_error(file), file.open("rb") as raw, opener(raw) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            for member in archive:
                yield archive, member, raw.tell() // _MB
        # The compression's checksum stands at the very end, and is checked when the end is read.
        while stream.read(_MB):
            pass


def _read_broken_link(target: PurePosixPath) -> bytes:
    raise ImageError(f"a link to {target}, which is not in the archive: pack it again")


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None  # The member is a file.
    return content.read()


def _list_zip(file: Path) -> Iterator[Entry]:
    with _damage_as_dataset_error(file), zipfile.ZipFile(file) as archive:
        found = [
            (member, path)
            for member in sorted(archive.infolist(), key=lambda member: member.filename)
            # Some Windows programs write backslashes as separators.
            if (path := parse_path(member.filename.replace("\\", "/"))) is not None
            and not stat.S_ISLNK(member.external_attr >> 16)
        ]
        for done, (member, path) in enumerate(found, start=1):
            if member.flag_bits & 1:
                raise DatasetError(f"{file}: encrypted: unpack it and give the folder")
            content = _reader(file, member.file_size, partial(archive.read, member))
            yield Entry(path, f"{file}: {member.filename}", content, done, len(found))


def _reader(file: Path, size: int, read: Callable[[], bytes]) -> Callable[[], bytes]:
    """`read`, with a check of the size first and damage reported as DatasetError."""

    def content() -> bytes:
        _check_size(size)
        with _damage_as_dataset_error(file):
            return read()

    return content


def _check_size(size: int) -> None:
    """Raises ImageError for a file that is too large."""
    if size > _LARGEST:
        raise ImageError(f"larger than {_LARGEST // 2**20} MiB")


@contextmanager
def _damage_as_dataset_error(file: Path) -> Iterator[None]:
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


def category_name(category: Iterable[str]) -> str:
    """A category's name for messages and for its recipe: the innermost folder, or "" at the top."""
    return next(iter(reversed(tuple(category))), "")
