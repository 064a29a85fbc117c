"""A labelled data set, file by file, from a folder or an archive.

Its layout is MVTec AD's (`test/good`, `test/<type>`, `ground_truth/<type>`), for one category or for many, or
a plain one: `good` and, beside it, a folder for each type of defect. In the plain layout `ground_truth`
beside `good` holds masks, and `train` is not looked at.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

from drivers import image_file
from drivers.image_file import ImageError
from drivers.image_name import is_folder_of_images, is_image_path
from monitor.errors import LineMonitorError

LAYOUT = (
    "a data set has test/good, test/<type> and ground_truth/<type>, for one category or in a folder each, "
    "or it has good and a folder for each type of defect"
)
GOOD = "good"
"""The folder of good parts, and their type."""

_TRAIN = "train"
_LARGEST = 512 * 2**20
"""The largest file in bytes. A larger one is not an image, and could fill the memory."""
_MB = 1_000_000
_Opener = Callable[[IO[bytes]], IO[bytes]]
"""Makes the stream of an archive's bytes from its file."""
_STREAMS: dict[bytes, _Opener] = {
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
    """The folders above test/ and ground_truth/, in the plain layout above good/; empty where these lie at
    the top."""
    kind: FileKind
    name: PurePosixPath
    """The path below test/ or ground_truth/, in the plain layout from the type's folder on; its first folder
    is the type."""

    @property
    def defect_type(self) -> str:
        """The type of defect, or `good`."""
        return self.name.parts[0]


_Parser = Callable[[str], LabelledPath | None]


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
    """Every image and mask of the data set; in a folder or a zip, one category after the other.

    `dataset` is a folder or a tar, tar.xz, tar.gz, tar.bz2 or zip archive, of one category or of many. Files
    without an image's suffix, hidden files and symbolic links in archives are left out. A hard link in a tar
    is the file that it links to; such archives are read twice, and so is a tar in the plain layout. Raises
    DatasetError.
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
    """The parts of a path in MVTec AD's layout; None for a file that is not a labelled image or mask."""
    parts = _image_parts(name)
    kinds = [kind.value for kind in FileKind]
    at = next((i for i, part in enumerate(parts) if part in (*kinds, _TRAIN)), None)
    # At least the type's folder lies between test/ or ground_truth/ and the file.
    if at is None or parts[at] == _TRAIN or len(parts) < at + 3:
        return None
    return LabelledPath(parts[:at], FileKind(parts[at]), PurePosixPath(*parts[at + 1 :]))


def parse_plain_path(name: str, top: tuple[str, ...] = ()) -> LabelledPath | None:
    """As `parse_path`, in the plain layout with `good` in the folder `top`."""
    parts = _image_parts(name)
    inside = parts[len(top) :]
    if parts[: len(top)] != top or len(inside) < 2 or inside[0] == _TRAIN:
        return None
    if inside[0] != FileKind.MASK.value:
        return LabelledPath(top, FileKind.IMAGE, PurePosixPath(*inside))
    return LabelledPath(top, FileKind.MASK, PurePosixPath(*inside[1:])) if len(inside) > 2 else None


def _image_parts(name: str) -> tuple[str, ...]:
    """The folders and the name of an image file inside a data set; empty for any other file."""
    path = PurePosixPath(name)
    return path.parts if not path.is_absolute() and is_image_path(path.parts) else ()


def _choose_parser(names: Sequence[str]) -> _Parser:
    """The parser for an archive with these files: MVTec AD's layout where one of them lies in test/, else the
    plain layout around the uppermost `good`."""
    if any((path := parse_path(name)) and path.kind is FileKind.IMAGE for name in names):
        return parse_path
    tops = [
        parts[: parts.index(GOOD)]
        for name in names
        if GOOD in (parts := _image_parts(name))[:-1] and _TRAIN not in parts[: parts.index(GOOD)]
    ]
    return partial(parse_plain_path, top=min(tops, key=len)) if tops else parse_path


def _list_folder(root: Path) -> Iterator[Entry]:
    is_plain = (root / GOOD).is_dir() and not (root / FileKind.IMAGE.value).is_dir()
    found = list(_plain_files(root) if is_plain else _mvtec_files(root))
    for done, (file, path) in enumerate(found, start=1):
        yield Entry(path, str(file), partial(_read_file, file), done, len(found))


def _mvtec_files(root: Path) -> Iterator[tuple[Path, LabelledPath]]:
    for category in _categories(root):
        for kind in FileKind:
            folder = category / kind.value
            above = category.relative_to(root).parts
            for file in _find(folder) if folder.is_dir() else ():
                if len(inside := file.relative_to(folder).parts) > 1:
                    yield file, LabelledPath(above, kind, PurePosixPath(*inside))


def _plain_files(root: Path) -> Iterator[tuple[Path, LabelledPath]]:
    for folder in sorted(root.iterdir()):
        # The images in train/ may be many, and none of them is tested.
        if folder.is_dir() and folder.name != _TRAIN:
            for file in _find(folder):
                if path := parse_plain_path(file.relative_to(root).as_posix()):
                    yield file, path


def _find(folder: Path) -> list[Path]:
    try:
        return image_file.find(folder)
    except ImageError as error:
        raise DatasetError(f"{folder}: {error}; {LAYOUT}") from None


def _categories(root: Path) -> list[Path]:
    """The folders that hold test/: the root, else folders in it, else folders in those. Raises
    DatasetError."""
    for pattern in ("test", "*/test", "*/*/test"):
        categories = [
            folder.parent
            for folder in sorted(root.glob(pattern))
            if folder.is_dir() and all(map(is_folder_of_images, folder.relative_to(root).parts))
        ]
        if categories:
            return categories
    raise DatasetError(f"{root}: neither a folder test nor a folder good in it; {LAYOUT}")


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


def _list_tar(file: Path, opener: _Opener) -> Iterator[Entry]:
    names: list[str] = []
    is_mvtec = False
    for entry in _tar_entries(file, opener, parse_path, names):
        is_mvtec |= entry.path.kind is FileKind.IMAGE
        yield entry
    if not is_mvtec:
        # A plain layout's masks lie where MVTec AD's do, so only its images are new.
        plain = _tar_entries(file, opener, _choose_parser(names), [])
        yield from (entry for entry in plain if entry.path.kind is FileKind.IMAGE)


def _tar_entries(file: Path, opener: _Opener, parse: _Parser, names: list[str]) -> Iterator[Entry]:
    """The archive's images and masks in its order. `names` gets the name of every image file."""
    total = max(1, file.stat().st_size // _MB)
    links: dict[PurePosixPath, list[tuple[str, LabelledPath]]] = {}
    for archive, member, done in _members(file, opener):
        if _image_parts(member.name):
            names.append(member.name)
        path = parse(member.name)
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
        linked = links.pop(PurePosixPath(member.name), []) if member.isfile() else []
        # Cached, since a stream gives a file's bytes only once and the file may have several links.
        content = cache(_reader(file, member.size, partial(_read_member, archive, member)))
        for name, path in linked:
            yield Entry(path, f"{file}: {name}", content, total, total, "MB")
    for target, linked in links.items():
        for name, path in linked:
            yield Entry(path, f"{file}: {name}", partial(_read_broken_link, target), total, total, "MB")


def _members(file: Path, opener: _Opener) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, int]]:
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
        # Some Windows programs write backslashes as separators.
        named = {
            member.filename.replace("\\", "/"): member
            for member in sorted(archive.infolist(), key=lambda member: member.filename)
            if not stat.S_ISLNK(member.external_attr >> 16)
        }
        parse = _choose_parser(list(named))
        found = [(member, path) for name, member in named.items() if (path := parse(name)) is not None]
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
