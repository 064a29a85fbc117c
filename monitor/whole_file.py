"""A file that is there whole or not at all, whatever happens while it is written.

Knows nothing of what is in it. Must never leave the name it was given half written.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

WRITING = ".writing-"
"""How the names begin of files that a crash left behind half written."""


def write_whole(file: Path, content: bytes) -> None:
    """Writes or replaces `file`; it is on disk when this returns. Raises OSError."""
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
