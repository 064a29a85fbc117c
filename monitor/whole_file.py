"""A file that is there whole or not at all, whatever happens while it is written.

Knows nothing of what is in it. Must never leave the name it was given half written.
"""

from __future__ import annotations

import errno
import os
import tempfile
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
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=WRITING)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_file(file: Path) -> bool:
    """Or is to be one."""
    return file.is_file() or not file.exists()
