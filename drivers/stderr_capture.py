"""Captures the lines that C libraries write to stderr, because some libraries report problems only there.

It knows nothing of images. Lines of other writers are passed on to stderr after the block. File descriptor 2
belongs to the whole process, so the block must last only milliseconds and must start no other process.
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
"""Only one block at a time may replace descriptor 2, so that each gets the lines of its own library."""
_ROOM = 1 << 20
"""Output beyond 1 MiB is dropped; the pipe must not block its writer."""
_PATIENCE_MS = 100
"""Longest wait for another thread that is still writing. A process that was started during the block would
keep the pipe open for longer."""


@contextmanager
def overheard(theirs: re.Pattern[str]) -> Iterator[list[str]]:
    """A list that holds, after the block, the lines that were written to stderr in it and match `theirs` at
    their start, without line ends.

    It takes about 30 microseconds. Raises OSError when the process has no file descriptors left.
    """
    heard: list[str] = []
    with _ONE_AT_A_TIME:
        _open_if_closed()
        kept = os.dup(_STDERR)
        try:
            # This is a pipe, not a file, because only a pipe shows when the last writer has closed it.
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
    """Open /dev/null as stderr if stderr is closed; otherwise the next opened file would become stderr."""
    try:
        os.fstat(_STDERR)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STDERR:
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)


def _enlarge(pipe: int) -> None:
    # Beyond the user's limit for pipes the pipe stays at 64 KiB.
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
    """Append the lines that match `theirs` to `heard`, and write all other lines to stderr."""
    others = bytearray()
    for line in written.splitlines(keepends=True):
        text = line.decode(errors="replace")
        if theirs.match(text):
            heard.append(text.strip())
        else:
            others += line
    # If stderr's reader has ended or does not read, these lines are lost: no program may wait for its log.
    room = select.poll()
    room.register(_STDERR, select.POLLOUT)
    with suppress(OSError):
        while others and room.poll(_PATIENCE_MS):
            del others[: os.write(_STDERR, others[: select.PIPE_BUF])]
