"""What C libraries write to stderr while they work: the only place where some of them tell of trouble.

Must never lose what others write meanwhile: it goes on to stderr when the work is done. Descriptor 2 belongs
to the whole process, so this is for work of milliseconds, in processes that start no others during it.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDERR = 2
_ONE_AT_A_TIME = threading.Lock()
"""There is only one descriptor 2, and each is to hear its own library."""
_ROOM = 1 << 20
"""Bytes that can be overheard; the rest is lost, since nobody must wait for us while we wait for him."""
_PATIENCE_MS = 100
"""With who was just writing. A program that was started meanwhile would hold its end of the pipe for long."""


@contextmanager
def overheard(theirs: re.Pattern[str]) -> Iterator[list[str]]:
    """A list that holds, once the block has ended, what was written to stderr in it: lines that begin like
    `theirs`, without their end.

    It costs some 30 microseconds. Raises OSError when the process has no descriptors left.
    """
    heard: list[str] = []
    with _ONE_AT_A_TIME:
        _open_if_closed()
        kept = os.dup(_STDERR)
        try:
            # Not a file: only a pipe says when the last one who began to write into it has done so.
            ear, mouth = os.pipe()
            try:
                _enlarge(mouth)
                os.set_blocking(mouth, False)
                os.dup2(mouth, _STDERR)
            finally:
                os.close(mouth)
            try:
                yield heard
            finally:
                os.dup2(kept, _STDERR)
                try:
                    _sort(_all(ear), theirs, heard)
                finally:
                    os.close(ear)
        finally:
            os.close(kept)


def _open_if_closed() -> None:
    """Where nobody listens, the next file that is opened would be taken for stderr."""
    try:
        os.fstat(_STDERR)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STDERR:
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)


def _enlarge(pipe: int) -> None:
    # A user's pipes have a limit; then this one stays at 64 KiB.
    with suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _ROOM)


def _all(ear: int) -> bytes:
    content = bytearray()
    waiting = select.poll()
    waiting.register(ear, select.POLLIN)
    while waiting.poll(_PATIENCE_MS) and (more := os.read(ear, _ROOM)):
        content += more
    return bytes(content)


def _sort(written: bytes, theirs: re.Pattern[str], heard: list[str]) -> None:
    """Theirs are heard, all else goes where it was meant to."""
    others = bytearray()
    for line in written.splitlines(keepends=True):
        text = line.decode(errors="replace")
        if theirs.match(text):
            heard.append(text.strip())
        else:
            others += line
    # A reader that went away is no reason to fail here.
    with suppress(OSError):
        while others:
            del others[: os.write(_STDERR, others)]
