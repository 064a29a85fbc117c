"""The board: each worker's state in a memory-mapped file, with one record per worker.

It knows nothing of frames. A worker writes its own record while it runs, the supervisor writes the record of
a dead worker; the supervisor, the publisher and the page read them. Each worker writes until when it counts
as alive, because a camera driver may block for seconds while the publisher's loop takes 10 ms. The record of
a dead worker stays readable. The record of a capture worker also holds the recipe request for its camera and
the scoring worker's answer: both must outlive the process that wrote them.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from enum import IntEnum
from pathlib import Path

_RECORD = 8192
_WORDS = 64
_NOTE = struct.Struct("<II")
_NOTE_TRIES, _NOTE_PAUSE_S = 20, 0.001
"""How often a note that is being written is read, and the pause between."""


class Note(IntEnum):
    """The sections of a record that hold bytes, by their offset. Each note has one writer."""

    TROUBLE = _WORDS * 8
    """The worker's present trouble as text, written by the worker."""
    REQUEST = 1024
    """The last recipe request, in a capture worker's record (`monitor.line_state.changeover`), and the last
    request for a set of recipes, in the publisher's (`monitor.line_state.set_request`). The publisher writes
    both. In the review worker's record: what a person asked for last on the challenge page, written by it
    (`monitor.line_state.challenge_request`)."""
    RECIPE_STATUS = 2048
    """The recipe in force and the answer to the last request, in a capture worker's record, and the answer
    to the last request for a set of recipes, in the scoring worker's. The scoring worker writes both."""
    LATCHED = 4096
    """The parts for which the line is latched, in the publisher's record, written by the publisher
    (`monitor.line_state.latched_parts`)."""
    RESET_BY = 6144
    """Who asked for a reset on the operators' page, in the review worker's record, written by it
    (`monitor.line_state.reset_request`)."""
    CHALLENGE = RESET_BY
    """Where the challenge stands, in the publisher's record, written by the publisher
    (`monitor.line_state.challenge_board`)."""

    @property
    def room(self) -> int:
        """The number of bytes that the note can hold."""
        end = min((note for note in Note if note > self), default=_RECORD)
        return end - self - _NOTE.size


class WorkerState(IntEnum):
    ABSENT = 0
    """It was not started yet, has died, or is killed because it is stuck."""
    STARTING = 1
    RUNNING = 2
    STOPPED = 3
    """It has ended in order."""


class CameraState(IntEnum):
    STARTING = 0
    UP = 1
    LOST = 2
    FROZEN = 3
    UNDATED = 4
    """It sends images, but the times at which they arrived can't be told."""

    @property
    def word(self) -> str:
        return self.name.lower()


class Field(IntEnum):
    """The 8-byte fields of a record. Times are CLOCK_MONOTONIC nanoseconds.

    A camera's bit is `1 << place`, with its place in the settings; a worker's bit with its place on the
    board.
    """

    PID = 0
    STATE = 1
    ALIVE_UNTIL_NS = 2
    """The worker counts as alive until this time. Later it counts as stuck, and the supervisor kills it."""
    SINCE_NS = 3
    """When the worker started."""
    CAMERA_STATE = 4
    """The state of a capture worker's camera."""
    EVER_CONNECTED = 5
    """When a publisher of this session was first connected to the broker; 0 before that."""
    LATCH = 6
    """The latch that keeps the line from being ready, written by the publisher. It must outlive the
    publisher's process."""
    WITHOUT_RECIPE = 7
    """A bit for each camera whose recipe can't be used, written by the scoring worker."""
    EVER_RAN = 8
    """1 once this worker, or one before it with the same name, was running."""
    SNAPSHOT_BYTES = 9
    """The bytes in the snapshot folder, written by the snapshot writer."""
    FAILING = 10
    """A bit for each worker that has died too often within the last minute, written by the supervisor."""
    STOPPING = 11
    """1 once the line is being stopped in order, written by the supervisor."""
    READY = 12
    """The run permission that the publisher sent last; 0 without a connection to the broker."""
    RESTARTS = 13
    """How often the worker was started again. The supervisor writes it into a dead worker's record."""
    DRIFT_HIGHER = 14
    """A bit for each camera whose good parts score higher than at calibration, written by the scoring
    worker."""
    DRIFT_LOWER = 15
    BEATS = 16
    """The number of heartbeats that the publisher has sent in this session."""
    RESET_NS = 17
    """When the publisher last received a reset. Rejects before it no longer count for a stop of the line."""
    JOURNAL_FAILING = 18
    """1 while the journal can't be written, written by the publisher."""
    WITHOUT_TIME = 19
    """A bit for each live view for which the parts leave no time, written by the scoring worker."""
    CAMERA_TIMES = 20
    """In a capture worker's record: the deadline and the gate's last moment that count for its next frame
    (`monitor.line_state.live_settings`), written by the supervisor."""
    LOG_LEVEL = 21
    """The level of the log, as a number of Python's `logging`, written by the supervisor."""
    RELOADS = 22
    """How often the supervisor has written settings to the board."""
    YIELDS = 23
    """1 while the publisher listens for another line before it connects: the publisher that follows it must
    listen too."""
    RESETS_ASKED = 24
    """In the review worker's record: how often a person has asked for a reset on the page, written by it."""
    RESETS_TAKEN = 25
    """In the publisher's record: the number in `RESETS_ASKED` that it has acted on last."""
    CHALLENGES_ASKED = 26
    """In the review worker's record: how often a person has asked for something on the challenge page."""
    CHALLENGES_TAKEN = 27
    """In the publisher's record: the number in `CHALLENGES_ASKED` that it has acted on last."""
    CHALLENGE_HOLD = 28
    """Whether a challenge keeps the line from being ready (`monitor.line_state.challenge_run.Hold`), written
    by the publisher."""
    CHALLENGE_PARTS = 29
    """The CRC of the challenge parts' names in their order, which the numbers in the rings count, written by
    the publisher."""
    CHALLENGE_CAMERA = 30
    """The place in the settings, from 1, of the camera under which a challenge part is laid or may still lie,
    written by the publisher; 0 for none."""
    CHALLENGE_SINCE_NS = 31
    """Since when that camera's frames may show the part."""
    UNUSABLE = 32
    """In a capture worker's record: 1 while the camera's last images were all unusable
    (`monitor.publish.unusable_images`), written by the publisher."""


class Board:
    """The records of all workers, in a fixed order of their names."""

    def __init__(self, file: Path, workers: tuple[str, ...], *, writable: bool = True) -> None:
        """Maps an existing board, read-only unless `writable`. Raises OSError when it is missing, ValueError
        when it is too small."""
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
        """Makes an empty board. An existing board is replaced."""
        fresh = file.with_suffix(".new")
        fresh.write_bytes(bytes(len(workers) * _RECORD))
        fresh.chmod(0o600)
        fresh.rename(file)

    def close(self) -> None:
        self._words.release()
        self._view.release()
        self._map.close()

    def read(self, worker: str, word: Field) -> int:
        return self._words[self._places[worker] * _RECORD // 8 + word]

    def write(self, worker: str, word: Field, value: int) -> None:
        self._words[self._places[worker] * _RECORD // 8 + word] = value

    def state(self, worker: str) -> WorkerState:
        return WorkerState(self.read(worker, Field.STATE))

    def is_fresh(self, worker: str, now_ns: int) -> bool:
        """Whether the worker is running and has reported in time."""
        return self.state(worker) is WorkerState.RUNNING and now_ns <= self.read(worker, Field.ALIVE_UNTIL_NS)

    def is_lost(self, worker: str) -> bool:
        """Whether the worker has died, or was killed because it was stuck, and no successor runs yet. A
        worker that is only slow is not lost."""
        return self.state(worker) in (WorkerState.ABSENT, WorkerState.STARTING)

    def camera_state(self, worker: str) -> CameraState:
        """The state of a capture worker's camera. A camera whose last images were all unusable is lost."""
        state = CameraState(self.read(worker, Field.CAMERA_STATE))
        if state is CameraState.UP and self.read(worker, Field.UNUSABLE):
            return CameraState.LOST
        return state

    def write_trouble(self, worker: str, text: str) -> None:
        """Writes the worker's present trouble in one line; empty when there is none."""
        self.write_note(worker, Note.TROUBLE, text.encode()[: Note.TROUBLE.room])

    def read_trouble(self, worker: str) -> str:
        """The worker's present trouble; empty when there is none."""
        return self.read_note(worker, Note.TROUBLE).decode(errors="replace")

    def write_note(self, worker: str, note: Note, content: bytes) -> None:
        """Writes a note with its length and checksum. Raises ValueError when the content is too long."""
        if len(content) > note.room:
            raise ValueError(f"a {note.name.lower()} note holds {note.room} bytes, not {len(content)}")
        at = self._places[worker] * _RECORD + note
        self._view[at : at + _NOTE.size + len(content)] = (
            _NOTE.pack(len(content), zlib.crc32(content)) + content
        )

    def read_note(self, worker: str, note: Note) -> bytes:
        """The content of a note. Empty when there is none, and where its writer died while it wrote."""
        at = self._places[worker] * _RECORD + note
        for _ in range(_NOTE_TRIES):
            length, crc = _NOTE.unpack_from(self._view, at)
            content = bytes(self._view[at + _NOTE.size : at + _NOTE.size + min(length, note.room)])
            if zlib.crc32(content) == crc:
                return content
            # It is being written: on a busy machine its writer may wait for the processor.
            time.sleep(_NOTE_PAUSE_S)
        return b""
