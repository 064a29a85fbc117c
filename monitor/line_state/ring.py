"""A camera's ring: the truth about every frame, in memory-mapped files that outlive any worker.

Two files in the runtime directory. `<camera>.ring` holds a header, a table of pixel slots and a circular
ledger of fixed records; `<camera>.pixels` holds the pixels. Every field has one writer: the capture worker
writes what was captured, the scoring worker what was scored, the publisher what was closed and sent. A part
of several fields ends in its own CRC, so that a writer killed halfway, or a reader on a machine with weak
memory ordering, leaves or sees "not written" and never half a value; single words are stored in one machine
instruction. Stale values of the ledger's previous lap are told apart by the frame number that each part and
word carries.

This module must never decide anything: what a frame's verdict is stands in `ledger`.
"""

from __future__ import annotations

import mmap
import os
import struct
import uuid
import zlib
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.errors import LineMonitorError
from monitor.line_state.frame import Frame, PixelFormat
from monitor.verdict import Reason, Verdict

RECORDS = 16_384
"""Eleven minutes at 25 frames a second: the longest a publisher may be away before capture must stop."""
SLOTS = 64
SLOT_STRIDE = 64 * 1024 * 1024
"""Address space of a slot. The pixel file is sparse: only what a camera's frames need is backed by memory."""
POOL_BYTES = 256 * 1024 * 1024
"""Pixels a camera may hold: large frames get fewer slots, but at least four."""

_MAGIC = b"LMRING02"
_PAGE = 4096
_HEADER = struct.Struct("<8s16s16s")
_CAPTURED = struct.Struct("<Qqqqqqqqi4BII")
_SCORED = struct.Struct("<Qddqq4B32s")
_CLOSED = struct.Struct("<Qqq4B")
_CURSOR = struct.Struct("<QQQ")
_TALLY = struct.Struct("<QQQQQQ13Q")
_CRC = struct.Struct("<I")

_CURSOR_AT, _TALLY_AT, _COPY = _PAGE, _PAGE + 1024, 512
_SLOTS_AT, _SLOT_ENTRY = 2 * _PAGE, 64
_LEDGER_AT, _RECORD = 4 * _PAGE, 256
_CAPTURED_AT, _FILLED_AT, _SCORED_AT, _CLOSED_AT, _STAGE_AT, _SENT_AT = 0, 88, 96, 176, 208, 216
_ANSWERED_AT = 224
_SIZE = _LEDGER_AT + RECORDS * _RECORD


class RingError(LineMonitorError):
    """The ring's files can't be used; one line says why."""


class Stage(IntEnum):
    """What became of a closed frame's verdict."""

    CLOSED = 0
    SENT = 1
    """The broker has it, or nobody was to be told."""
    ACKNOWLEDGED = 2
    EXPIRED = 3
    """The gate's last moment passed before it was sent."""
    UNACKNOWLEDGED = 4
    """Sent, but the gateway's answer did not come in time, or said that the gate did not act."""

    @property
    def is_final(self) -> bool:
        return self is not Stage.CLOSED


@dataclass(frozen=True, slots=True)
class Scored:
    """What the scoring worker says about a frame. Times are CLOCK_MONOTONIC nanoseconds."""

    verdict: Verdict
    reason: Reason
    score: float
    threshold: float
    started_ns: int
    scored_ns: int
    recipe_sha: str
    """Hexadecimal; empty where no recipe was in force."""
    snapshot: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """A frame's one verdict. `judged` says that it is the scorer's, with its score."""

    verdict: Verdict
    reason: Reason
    judged: bool
    snapshot: bool
    closed_ns: int
    closed_utc_ns: int


@dataclass(frozen=True, slots=True)
class Tally:
    """The publisher's counts over all frames up to `cursor`, whose verdicts need nothing more."""

    cursor: int = 0
    passed: int = 0
    rejected: int = 0
    missed_rejects: int = 0
    no_part: int = 0
    """Of the passed ones, those that showed no part."""
    uninspected: tuple[int, ...] = (0,) * len(Reason)
    """By `Reason` number."""

    @property
    def frames(self) -> int:
        return self.passed + self.rejected + sum(self.uninspected)


class Ring:
    """One camera's ring, opened for reading by anyone and for writing by those who own a part."""

    def __init__(
        self, folder: Path, camera: str, session: uuid.UUID | None = None, *, writable: bool = True
    ) -> None:
        """Maps an existing ring; not `writable`, nothing can be changed through this mapping. Raises
        RingError when it is missing, alien, or of another session."""
        self.camera = camera
        self._writable = writable
        self._files: list[int] = []
        try:
            self._map = self._open(folder / f"{camera}.ring", _SIZE)
            self._pixels = self._open(folder / f"{camera}.pixels", SLOTS * SLOT_STRIDE)
        except (OSError, ValueError) as error:
            self.close()
            raise RingError(f"ring of camera {camera!r} in {folder}: {error}") from error
        magic, owner, _ = _HEADER.unpack_from(self._map, 0)
        if magic != _MAGIC:
            raise RingError(f"ring of camera {camera!r} in {folder} was made by another version")
        self.session = uuid.UUID(bytes=owner)
        if session is not None and session != self.session:
            raise RingError(f"ring of camera {camera!r} in {folder} belongs to another session")
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")
        self._reserved = 0

    @staticmethod
    def create(folder: Path, camera: str, session: uuid.UUID) -> None:
        """Lays down an empty ring of a new session, in place of any old one."""
        boot = _boot()
        for name, size in ((f"{camera}.pixels", SLOTS * SLOT_STRIDE), (f"{camera}.ring", _SIZE)):
            fresh = folder / f"{name}.new"
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(handle, size)
                if name.endswith(".ring"):
                    # A ledger without room would be a SIGBUS in the middle of a shift.
                    os.posix_fallocate(handle, 0, size)
                    os.pwrite(handle, _HEADER.pack(_MAGIC, session.bytes, boot.bytes), 0)
            finally:
                os.close(handle)
            fresh.rename(folder / name)

    def close(self) -> None:
        """Unmaps the files; they stay on disk for the other workers."""
        for part in ("_words", "_view"):
            if view := getattr(self, part, None):
                view.release()
        for part in ("_map", "_pixels"):
            if mapped := getattr(self, part, None):
                try:
                    mapped.close()
                except BufferError:
                    # A caller still holds an array over the pixels; the mapping goes with it.
                    continue
        while self._files:
            os.close(self._files.pop())

    def _open(self, file: Path, size: int) -> mmap.mmap:
        handle = os.open(file, (os.O_RDWR if self._writable else os.O_RDONLY) | os.O_CLOEXEC)
        self._files.append(handle)
        return mmap.mmap(handle, size, access=mmap.ACCESS_WRITE if self._writable else mmap.ACCESS_READ)

    # Reading, for everyone

    def is_of_this_boot(self) -> bool:
        """Whether the machine has run ever since the ring was laid down: all that was written is there."""
        return bool(_HEADER.unpack_from(self._map, 0)[2] == _boot().bytes)

    def last_frame(self) -> int:
        """The newest frame's number; 0 before the first."""
        last = self._cursor()[1]
        while self.frame(last + 1) is not None:
            last += 1
        return last

    def overruns(self) -> int:
        """Exposures that capture had to refuse because the publisher was away for a whole lap."""
        return self._cursor()[2]

    def frame(self, number: int) -> Frame | None:
        """What was captured as that number; None when it is not (or no longer) in the ledger."""
        at = self._record(number)
        values = self._read(at + _CAPTURED_AT, _CAPTURED)
        if values is None or values[0] != number or number == 0:
            return None
        return Frame(
            number=values[0],
            captured_ns=values[1],
            captured_utc_ns=values[2],
            decide_by_ns=values[3],
            deadline_ns=values[4],
            expires_ns=values[5],
            device_ns=values[6],
            device_frame=values[7],
            slot=values[8],
            refused=Reason(values[9]),
            format=PixelFormat(values[10]),
            height=values[13],
            width=values[14],
        )

    def is_filled(self, number: int) -> bool:
        """Whether the frame's pixels are complete in its slot."""
        return self._words[(self._record(number) + _FILLED_AT) // 8] == number

    def scored(self, number: int) -> Scored | None:
        values = self._read(self._record(number) + _SCORED_AT, _SCORED)
        if values is None or values[0] != number:
            return None
        sha = values[9]
        return Scored(
            verdict=Verdict(values[5]),
            reason=Reason(values[6]),
            score=values[1],
            threshold=values[2],
            started_ns=values[3],
            scored_ns=values[4],
            recipe_sha=sha.hex() if values[8] else "",
            snapshot=bool(values[7]),
        )

    def closed(self, number: int) -> Closed | None:
        values = self._read(self._record(number) + _CLOSED_AT, _CLOSED)
        if values is None or values[0] != number:
            return None
        return Closed(
            verdict=Verdict(values[3]),
            reason=Reason(values[4]),
            judged=bool(values[5]),
            snapshot=bool(values[6]),
            closed_ns=values[1],
            closed_utc_ns=values[2],
        )

    def stage(self, number: int) -> Stage:
        """What became of a closed frame; CLOSED until the publisher says more."""
        owner, stage = divmod(self._words[(self._record(number) + _STAGE_AT) // 8], 8)
        return Stage(stage) if owner == number else Stage.CLOSED

    def sent_ns(self, number: int) -> int | None:
        """When the verdict left for the broker; None when it did not (or not yet)."""
        if self.stage(number) in (Stage.CLOSED, Stage.EXPIRED):
            return None
        return self._words[(self._record(number) + _SENT_AT) // 8] or None

    def answered_ns(self, number: int) -> int | None:
        """When the gateway answered; None when it did not, or was not asked to."""
        if self.stage(number) not in (Stage.ACKNOWLEDGED, Stage.UNACKNOWLEDGED):
            return None
        return self._words[(self._record(number) + _ANSWERED_AT) // 8] or None

    def tally(self) -> Tally:
        values = self._newest(_TALLY_AT, _TALLY)
        if values is None:
            return Tally()
        return Tally(
            cursor=values[1],
            passed=values[2],
            rejected=values[3],
            missed_rejects=values[4],
            no_part=values[5],
            uninspected=tuple(values[6:]),
        )

    def pixels(self, frame: Frame) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The frame's pixels in place, (H, W) or (H, W, 3); whoever keeps them copies them."""
        raw = np.frombuffer(self._pixels, np.uint8, frame.nbytes, frame.slot * SLOT_STRIDE)
        if frame.format.bytes_per_channel == 2:
            return raw.view(np.uint16).reshape(frame.shape)
        return raw.reshape(frame.shape)

    def still_holds(self, frame: Frame) -> bool:
        """Whether no later frame has taken the frame's slot: what was copied from it before is the frame."""
        return frame.slot >= 0 and self._slot(frame.slot)[0] == frame.number

    # The capture worker's part

    def recover_capture(self) -> int:
        """Takes up after a dead capture worker: gives back slots it left half filled. Returns the last
        frame's number; the next one is that plus one."""
        last = self.last_frame()
        self._write_cursor(last, self.overruns())
        for slot in range(SLOTS):
            taken, released = self._slot(slot)
            if taken != released and not self.is_filled(taken):
                self._set_word(_SLOTS_AT + slot * _SLOT_ENTRY, released)
        return last

    def reserve(self, frame_bytes: int) -> int:
        """Backs slots for frames of that size with real memory, so that no later write can fail. Returns
        how many slots there are. Raises RingError when the frames are too large or memory is short."""
        if frame_bytes > SLOT_STRIDE:
            raise RingError(
                f"a frame of {frame_bytes} bytes is larger than a slot ({SLOT_STRIDE}): set roi, or Mono8"
            )
        usable = min(SLOTS, max(4, POOL_BYTES // max(1, frame_bytes)))
        if frame_bytes > self._reserved:
            for slot in range(usable):
                try:
                    os.posix_fallocate(self._files[1], slot * SLOT_STRIDE, frame_bytes)
                except OSError as error:
                    if slot >= 4:
                        usable = slot
                        break
                    raise RingError(
                        f"no room for {4 * frame_bytes} bytes of frames of camera {self.camera!r} in the "
                        f"runtime directory: {error.strerror}"
                    ) from error
            self._reserved = frame_bytes
            self._usable = usable
        return self._usable

    def free_slot(self) -> int | None:
        """A slot that nobody holds, the lowest first (its memory is the warmest); None when all are held."""
        for slot in range(self._usable):
            taken, released = self._slot(slot)
            if taken == released:
                return slot
        return None

    def has_room(self, number: int) -> bool:
        """Whether the ledger's place for that frame is free, its old frame being done with."""
        return number - RECORDS <= self.tally().cursor

    def record(self, frame: Frame) -> None:
        """Writes a frame into the ledger, in order: from here on it will get its verdict. Its slot is taken;
        `fill` then makes it visible to the scorer."""
        self._write(
            self._record(frame.number) + _CAPTURED_AT,
            _CAPTURED.pack(
                frame.number,
                frame.captured_ns,
                frame.captured_utc_ns,
                frame.decide_by_ns,
                frame.deadline_ns,
                frame.expires_ns,
                frame.device_ns,
                frame.device_frame,
                frame.slot,
                frame.refused,
                frame.format,
                0,
                0,
                frame.height,
                frame.width,
            ),
        )
        if frame.slot >= 0:
            self._set_word(_SLOTS_AT + frame.slot * _SLOT_ENTRY, frame.number)
        self._write_cursor(frame.number, self.overruns())

    def fill(self, frame: Frame, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """Copies the pixels into the frame's slot and offers it to the scorer."""
        np.copyto(self.pixels(frame), pixels)
        self._set_word(self._record(frame.number) + _FILLED_AT, frame.number)

    def count_overrun(self) -> None:
        self._write_cursor(self._cursor()[1], self.overruns() + 1)

    # The scoring worker's part

    def waiting(self) -> list[Frame]:
        """Frames whose slots the scorer has not released, in order: its work, also after a restart."""
        frames = []
        for slot in range(SLOTS):
            taken, released = self._slot(slot)
            if taken != released and self.is_filled(taken) and (frame := self.frame(taken)):
                frames.append(frame)
        return sorted(frames, key=lambda frame: frame.number)

    def write_scored(self, number: int, scored: Scored) -> None:
        self._write(
            self._record(number) + _SCORED_AT,
            _SCORED.pack(
                number,
                scored.score,
                scored.threshold,
                scored.started_ns,
                scored.scored_ns,
                scored.verdict,
                scored.reason,
                scored.snapshot,
                bool(scored.recipe_sha),
                bytes.fromhex(scored.recipe_sha),
            ),
        )

    def release(self, frame: Frame) -> None:
        """Gives the frame's slot back to capture."""
        self._set_word(_SLOTS_AT + frame.slot * _SLOT_ENTRY + 8, frame.number)

    # The publisher's part

    def write_closed(self, number: int, closed: Closed) -> None:
        self._write(
            self._record(number) + _CLOSED_AT,
            _CLOSED.pack(
                number,
                closed.closed_ns,
                closed.closed_utc_ns,
                closed.verdict,
                closed.reason,
                closed.judged,
                closed.snapshot,
            ),
        )

    def write_stage(self, number: int, stage: Stage, sent_ns: int = 0, answered_ns: int = 0) -> None:
        at = self._record(number)
        self._set_word(at + _ANSWERED_AT, answered_ns)
        self._set_word(at + _SENT_AT, sent_ns)
        self._set_word(at + _STAGE_AT, number * 8 + stage)

    def write_tally(self, tally: Tally) -> None:
        self._write_copy(
            _TALLY_AT,
            _TALLY,
            (
                tally.cursor,
                tally.passed,
                tally.rejected,
                tally.missed_rejects,
                tally.no_part,
                *tally.uninspected,
            ),
        )

    # Bytes

    def _record(self, number: int) -> int:
        return _LEDGER_AT + (number % RECORDS) * _RECORD

    def _slot(self, slot: int) -> tuple[int, int]:
        at = (_SLOTS_AT + slot * _SLOT_ENTRY) // 8
        return self._words[at], self._words[at + 1]

    def _set_word(self, at: int, value: int) -> None:
        self._words[at // 8] = value

    def _cursor(self) -> tuple[int, int, int]:
        values = self._newest(_CURSOR_AT, _CURSOR)
        return (values[0], values[1], values[2]) if values else (0, 0, 0)

    def _write_cursor(self, last: int, overruns: int) -> None:
        self._write_copy(_CURSOR_AT, _CURSOR, (last, overruns))

    def _write(self, at: int, part: bytes) -> None:
        self._view[at : at + len(part) + _CRC.size] = part + _CRC.pack(zlib.crc32(part))

    def _read(self, at: int, layout: struct.Struct) -> tuple[Any, ...] | None:
        part = bytes(self._view[at : at + layout.size + _CRC.size])
        (crc,) = _CRC.unpack_from(part, layout.size)
        if zlib.crc32(part[: layout.size]) != crc:
            return None
        return layout.unpack_from(part)

    def _newest(self, at: int, layout: struct.Struct) -> tuple[Any, ...] | None:
        """The newer of a part's two copies: its writer may have died while writing the other."""
        copies = [values for copy in (0, _COPY) if (values := self._read(at + copy, layout)) and values[0]]
        return max(copies, key=lambda values: values[0], default=None)

    def _write_copy(self, at: int, layout: struct.Struct, values: tuple[Any, ...]) -> None:
        newest = self._newest(at, layout)
        sequence = newest[0] + 1 if newest else 1
        self._write(at + (sequence % 2) * _COPY, layout.pack(sequence, *values))


def _boot() -> uuid.UUID:
    return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
