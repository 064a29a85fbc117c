"""The board: where each worker says that it is alive and how it is, in a memory-mapped file.

One record a worker, written by that worker while it lives and by the supervisor once it is dead; the
supervisor and the publisher read them. A worker
promises by when it will be heard of again, so that a driver that may block for five seconds and a publisher
that turns every ten milliseconds are judged by their own measure. A dead worker's last words stay readable.
A camera's record also holds what was asked and said about its recipe, since that must outlive whoever asked
or answered.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from enum import IntEnum
from pathlib import Path

_RECORD = 4096
_WORDS = 64
_NOTE = struct.Struct("<II")


class Note(IntEnum):
    """The parts of a record that hold bytes: where each begins. One writer a note."""

    TROUBLE = _WORDS * 8
    """The worker's present trouble in words."""
    REQUEST = 1024
    """The publisher's, in a capture worker's record: the recipe last asked for
    (`monitor.line_state.changeover`)."""
    STANDING = 2048
    """The scoring worker's, in a capture worker's record: which recipe is in force, and its last answer."""

    @property
    def room(self) -> int:
        """How many bytes it holds."""
        end = min((note for note in Note if note > self), default=_RECORD)
        return end - self - _NOTE.size


class WorkerState(IntEnum):
    ABSENT = 0
    STARTING = 1
    RUNNING = 2
    STOPPED = 3


class CameraState(IntEnum):
    STARTING = 0
    UP = 1
    LOST = 2
    FROZEN = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Word(IntEnum):
    """The words of a record. Times are CLOCK_MONOTONIC nanoseconds."""

    PID = 0
    STATE = 1
    PROMISE_NS = 2
    """By then the worker will have promised anew; later it counts as stuck."""
    SINCE_NS = 3
    CAMERA_STATE = 4
    """A capture worker's camera."""
    EVER_LINKED = 5
    """The publisher's: 1 once the broker had it, or one before it."""
    LATCH = 6
    """The publisher's latched reason for not being ready; it must outlive the publisher."""
    WITHOUT_RECIPE = 7
    """The scoring worker's: a bit for each camera (by its place in the settings) that it can't score."""
    EVER_RAN = 8
    """1 once the worker, or one before it at the same post, was running."""
    SNAPSHOT_BYTES = 9
    FAILING = 10
    """The supervisor's: a bit for each worker (by its place in the roll) that keeps dying."""
    STOPPING = 11
    """The supervisor's: 1 once the line is being stopped in order."""
    READY = 12
    """The publisher's: the run permission as it was last told; 0 while there is no broker to tell."""
    RESTARTS = 13
    """Written by the supervisor into a dead worker's record, as STATE is."""
    DRIFT_HIGHER = 14
    """The scoring worker's: a bit for each camera whose good parts score higher than at calibration."""
    DRIFT_LOWER = 15
    BEATS = 16
    """The publisher's: heartbeats told in this session."""
    RESET_NS = 17
    """The publisher's: when it last heard a reset; rejects before it ask for no stop any more."""
    JOURNAL_FAILING = 18
    """The publisher's: 1 while the journal can't be written."""


class Board:
    """All workers' records, by name in a fixed order."""

    def __init__(self, file: Path, workers: tuple[str, ...], *, writable: bool = True) -> None:
        """Maps an existing board; not `writable`, it can only be read. Raises OSError, ValueError when it is
        missing or too small."""
        self._places = {name: place for place, name in enumerate(workers)}
        handle = os.open(file, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        try:
            self._map = mmap.mmap(handle, len(workers) * _RECORD, access=access)
        finally:
            os.close(handle)
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")

    @staticmethod
    def create(file: Path, workers: tuple[str, ...]) -> None:
        """Lays down an empty board in place of any old one."""
        fresh = file.with_suffix(".new")
        fresh.write_bytes(bytes(len(workers) * _RECORD))
        fresh.chmod(0o600)
        fresh.rename(file)

    def close(self) -> None:
        self._words.release()
        self._view.release()
        self._map.close()

    def read(self, worker: str, word: Word) -> int:
        return self._words[self._places[worker] * _RECORD // 8 + word]

    def write(self, worker: str, word: Word, value: int) -> None:
        self._words[self._places[worker] * _RECORD // 8 + word] = value

    def state(self, worker: str) -> WorkerState:
        return WorkerState(self.read(worker, Word.STATE))

    def is_fresh(self, worker: str, now_ns: int) -> bool:
        """Whether the worker runs and has kept its promise to be heard of."""
        return self.state(worker) is WorkerState.RUNNING and now_ns <= self.read(worker, Word.PROMISE_NS)

    def say(self, worker: str, text: str) -> None:
        """The worker's present trouble in one line; empty when there is none."""
        self.write_note(worker, Note.TROUBLE, text.encode()[: Note.TROUBLE.room])

    def said(self, worker: str) -> str:
        return self.read_note(worker, Note.TROUBLE).decode(errors="replace")

    def write_note(self, worker: str, note: Note, content: bytes) -> None:
        """Raises ValueError when the note has no room for it."""
        if len(content) > note.room:
            raise ValueError(f"a {note.name.lower()} note holds {note.room} bytes, not {len(content)}")
        at = self._places[worker] * _RECORD + note
        self._view[at : at + _NOTE.size + len(content)] = (
            _NOTE.pack(len(content), zlib.crc32(content)) + content
        )

    def read_note(self, worker: str, note: Note) -> bytes:
        """Empty when there is none, or its writer is at it or died over it."""
        at = self._places[worker] * _RECORD + note
        length, crc = _NOTE.unpack_from(self._view, at)
        content = bytes(self._view[at + _NOTE.size : at + _NOTE.size + min(length, note.room)])
        return content if zlib.crc32(content) == crc else b""
