"""A file that is there whole or not at all, whatever happens while it is written.

Knows nothing of what is in it. Must never leave the name it was given half written.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

WRITING = ".writing-"
"""How the names begin of files that a crash left behind half written."""


def check_place(file: Path) -> None:
    """Raises OSError where `write_whole` would: to be asked before long work, and leaves nothing behind."""
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if _is_file(file):
        try:
            with tempfile.TemporaryFile(dir=file.parent, prefix=WRITING):
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from None


def write_whole(file: Path, content: bytes) -> None:
    """Writes or replaces `file`; it is on disk when this returns. Raises OSError.

    Into a pipe or device, as /dev/stdout is, it only writes: in its place a file would be in the way.
    """
    if not _is_file(file):
        with file.open("wb") as out:
            out.write(content)
        return
    write_together({file: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Writes or replaces files of one folder that belong together; they are on disk when this returns.

    The last of several is the one by which the others are found: it is away while they are replaced, so it
    never stands beside another version's. Raises OSError.
    """
    folder = next(iter(contents)).parent
    written: dict[Path, Path] = {}
    try:
        for file, content in contents.items():
            written[file] = _temporary(folder, content)
        if len(contents) > 1:
            [*_, last] = contents
            last.unlink(missing_ok=True)
            _sync(folder)
        for file, temporary in written.items():
            temporary.replace(file)
    except BaseException:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
        raise
    _sync(folder)


def _temporary(folder: Path, content: bytes) -> Path:
    """A file with that content, on disk, under a name of its own."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=WRITING)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        temporary.chmod(0o644)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_file(file: Path) -> bool:
    """Or is to be one."""
    return file.is_file() or not file.exists()
