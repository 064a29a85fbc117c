"""The board: where each worker says that it is alive and how it is, in a memory-mapped file.

One record a worker, written by that worker while it lives and by the supervisor once it is dead; the
supervisor and the publisher read them. A worker
promises by when it will be heard of again, so that a driver that may block for five seconds and a publisher
that turns every ten milliseconds are judged by their own measure. A dead worker's last words stay readable.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from enum import IntEnum
from pathlib import Path

_RECORD = 1024
_WORDS = 64
_TEXT = struct.Struct("<II")
_TEXT_AT = _WORDS * 8
_TEXT_BYTES = _RECORD - _TEXT_AT - _TEXT.size


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
    """The publisher's: the run permission as it was last told."""
    RESTARTS = 13
    """Written by the supervisor into a dead worker's record, as STATE is."""
    DRIFT_HIGHER = 14
    """The scoring worker's: a bit for each camera whose good parts score higher than at calibration."""
    DRIFT_LOWER = 15


class Board:
    """All workers' records, by name in a fixed order."""

    def __init__(self, file: Path, workers: tuple[str, ...]) -> None:
        """Maps an existing board. Raises OSError, ValueError when it is missing or too small."""
        self._places = {name: place for place, name in enumerate(workers)}
        handle = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(handle, len(workers) * _RECORD)
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
        words = text.encode()[:_TEXT_BYTES]
        at = self._places[worker] * _RECORD + _TEXT_AT
        self._view[at : at + _TEXT.size + len(words)] = _TEXT.pack(len(words), zlib.crc32(words)) + words

    def said(self, worker: str) -> str:
        at = self._places[worker] * _RECORD + _TEXT_AT
        length, crc = _TEXT.unpack_from(self._view, at)
        words = bytes(self._view[at + _TEXT.size : at + _TEXT.size + min(length, _TEXT_BYTES)])
        return words.decode(errors="replace") if words and zlib.crc32(words) == crc else ""
