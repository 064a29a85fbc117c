"""Writes a file completely or not at all, also across a crash or a power cut.

It knows nothing of what is in the file. A half-written file must never get the final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

WRITING = ".writing-"
"""The prefix of temporary names. A file with this prefix is being written, or was left behind by a crash."""


def check_place(file: Path) -> None:
    """Raises OSError where `write_whole` would. Called before long work; it leaves no file behind."""
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if _is_regular_or_missing(file):
        try:
            with tempfile.TemporaryFile(dir=file.parent, prefix=WRITING):
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from None


def write_whole(file: Path, content: bytes, *, mode: int | None = 0o644) -> None:
    """Writes or replaces `file`. The content is on disk when the function returns. Raises OSError.

    `mode` is the file's permissions; None takes those of the process's umask.

    A pipe or a device such as /dev/stdout is written to directly: a rename would replace it by a file.
    """
    if not _is_regular_or_missing(file):
        with file.open("wb") as out:
            out.write(content)
        return
    with open_whole(file, mode=mode) as out:
        out.write(content)


@contextlib.contextmanager
def open_whole(file: Path, *, mode: int | None = 0o644) -> Iterator[BinaryIO]:
    """Opens a temporary file that takes the name `file` at the end of the block.

    The content is then on disk. When the block raises, `file` stays as it was. Raises OSError.
    """
    with _temporary_file(file.parent, mode) as (out, temporary):
        yield out
    _rename({file: temporary})
    sync_folder(file.parent)


def write_together(
    contents: Mapping[Path, bytes], *, mode: int | None = 0o644, prefix: str = WRITING
) -> None:
    """Writes or replaces files of one folder that belong together. They are on disk when it returns.

    The last file must be the one that names the others. It is deleted before the others are replaced, so that
    it never stands beside files of another version. `mode` is the files' permissions; None takes those of the
    process's umask. `prefix` begins the temporary names, for a writer that removes its own leftovers.
    Raises OSError.
    """
    folder = next(iter(contents)).parent
    written: dict[Path, Path] = {}
    try:
        for file, content in contents.items():
            with _temporary_file(folder, mode, prefix) as (out, temporary):
                out.write(content)
            written[file] = temporary
        if len(contents) > 1:
            [*_, last] = contents
            last.unlink(missing_ok=True)
            sync_folder(folder)
    except BaseException:
        _delete(written.values())
        raise
    _rename(written)
    sync_folder(folder)


def remove_file(file: Path) -> None:
    """Deletes `file` if it exists. The deletion is on disk when the function returns. Raises OSError."""
    file.unlink(missing_ok=True)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Writes a folder's names to disk: otherwise a power cut could undo a rename or a deletion."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary_file(folder: Path, mode: int | None, prefix: str = WRITING) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file with a temporary name. It is on disk after the block, and deleted when the block raises."""
    temporary = folder / f"{prefix}{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as out:
            yield out, temporary
            out.flush()
            os.fsync(out.fileno())
        if mode is not None:
            temporary.chmod(mode)
    except BaseException:
        _delete([temporary])
        raise


def _rename(written: Mapping[Path, Path]) -> None:
    """Gives temporary files their final names; deletes those that are left when one rename fails."""
    try:
        for file, temporary in written.items():
            temporary.replace(file)
    except BaseException:
        _delete(written.values())
        raise


def _delete(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _is_regular_or_missing(file: Path) -> bool:
    return file.is_file() or not file.exists()
