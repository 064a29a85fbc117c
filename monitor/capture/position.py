"""Keeps where a camera's source of stored images stands, beside the camera's ring, over a worker's death.

It knows nothing of images. A capture worker that follows a dead one goes on after the last image that has a
frame, and never reads the image again that ended the one before.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from pathlib import Path

from drivers.progress import Mark, Progress, Step
from monitor.line_state.ring import Ring

_RECORD = struct.Struct("<16sqBH255sI")
"""Session, index, step, length of the name, name, CRC of all before it."""


class StoredPosition(Progress):
    """The mark in a file of the runtime directory, for one session.

    It is written by one system call, so that a killed worker leaves it whole. It is not synced: it matters
    only while the machine runs.
    """

    def __init__(self, folder: Path, ring: Ring) -> None:
        """Raises OSError."""
        super().__init__()
        self._session = ring.session
        self._file = os.open(folder / f"{ring.camera}.position", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Without reserved memory, a later write could fail and end the worker.
        os.posix_fallocate(self._file, 0, _RECORD.size)
        found = _unpack(os.pread(self._file, _RECORD.size, 0), ring.session)
        self.mark = recover(found, _newest_index(ring))

    def keep(self, mark: Mark) -> None:
        super().keep(mark)
        os.pwrite(self._file, _pack(mark, self._session), 0)

    def close(self) -> None:
        os.close(self._file)


def recover(found: Mark | None, newest: int) -> Mark:
    """The mark for the worker that follows. `found` is what the worker before wrote, None if that is lost;
    `newest` is the index of the newest image that has a frame, -1 if none has."""
    if found is None:
        return Mark(newest)
    if found.index <= newest:
        # The worker died between writing the frame and saying so.
        return Mark(newest, found.name if found.index == newest else "", Step.TOLD)
    return found


def _newest_index(ring: Ring) -> int:
    """The index of the newest image that has a frame; the frame of a missed exposure has none."""
    number = ring.last_frame()
    while number > 0 and (frame := ring.frame(number)) is not None:
        if frame.device_frame >= 0:
            return frame.device_frame
        number -= 1
    return -1


def _pack(mark: Mark, session: uuid.UUID) -> bytes:
    name = os.fsencode(mark.name)
    values = _RECORD.pack(session.bytes, mark.index, mark.step, len(name), name, 0)[:-4]
    return values + struct.pack("<I", zlib.crc32(values))


def _unpack(content: bytes, session: uuid.UUID) -> Mark | None:
    """The mark; None if there is none of this session."""
    if len(content) != _RECORD.size:
        return None
    owner, index, step, length, name, crc = _RECORD.unpack(content)
    if owner != session.bytes or crc != zlib.crc32(content[:-4]):
        return None
    return Mark(index, os.fsdecode(name[:length]), Step(step))
