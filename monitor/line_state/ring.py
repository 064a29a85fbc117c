"""A camera's ring: the state of every frame, in memory-mapped files that outlive all workers.

It decides nothing: the rules for verdicts are in `monitor.line_state.verdict_rules`. Every frame passes
through its camera's ring, from the capture worker through the scoring worker to the publisher.

There are two files in the runtime directory. `<camera>.ring` holds a header, a table of pixel slots and a
circular ledger of fixed-size records; `<camera>.pixels` holds the pixels. Every field has one writer: the
capture worker for the captured frame, the scoring worker for its score, the publisher for the final verdict
and its delivery.

A record consists of sections of several fields and of single words of 8 bytes. A section ends with a CRC.
When its writer is killed while it writes, or a reader on a machine with weak memory ordering sees only some
of the fields, the section counts as not written. A word is stored by one machine instruction. Each section,
the filled word and the stage word hold their frame number, which tells them from the values of the frame that
had the same record before. The two time words (sent, answered) hold no number and are valid only together
with the stage word.
"""

from __future__ import annotations

import mmap
import os
import struct
import uuid
import zlib
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.errors import LineMonitorError
from monitor.line_state.frame import Frame, PixelFormat
from monitor.verdict import Reason, Verdict

RECORDS = 16_384
"""Frames in the ledger: 11 minutes at 25 frames a second. When the publisher is stopped for longer, new
exposures get no frame."""
SLOTS = 64
SLOT_STRIDE = 64 * 1024 * 1024
"""Address space of one slot. The pixel file is sparse: only the bytes of a camera's frames take memory."""
POOL_BYTES = 256 * 1024 * 1024
"""Memory for the pixels of one camera. Larger frames get fewer slots, but at least four."""

_MAGIC = b"LMRING03"
_PAGE = 4096
_HEADER = struct.Struct("<8s16s16s")
_CAPTURED = struct.Struct("<Qqqqqqqqi4BII")
_SCORED = struct.Struct("<Qddqq4B32s")
_CLOSED = struct.Struct("<Qqq4B")
_CURSOR = struct.Struct("<QQQ")
_TALLY = struct.Struct("<QQQQQQ3Q13Q")
_CRC = struct.Struct("<I")

_CURSOR_AT, _TALLY_AT, _COPY = _PAGE, _PAGE + 1024, 512
_SLOTS_AT, _SLOT_ENTRY = 2 * _PAGE, 64
_LEDGER_AT, _RECORD = 4 * _PAGE, 256
_CAPTURED_AT, _FILLED_AT, _SCORED_AT, _CLOSED_AT, _STAGE_AT, _SENT_AT = 0, 88, 96, 176, 208, 216
_ANSWERED_AT = 224
_SIZE = _LEDGER_AT + RECORDS * _RECORD


class RingError(LineMonitorError):
    """The ring's files can't be used. The message is one line with the cause."""


class FrameTooLarge(RingError):
    """A frame does not fit into a slot; frames of other sizes may."""


class Stage(IntEnum):
    """How the delivery of a closed frame's verdict ended."""

    CLOSED = 0
    """The verdict is decided; its delivery has not ended."""
    SENT = 1
    """The broker has acknowledged the verdict, or the verdict has no topic to be sent to."""
    ACKNOWLEDGED = 2
    """The gateway has answered that the gate acts, or has acted."""
    EXPIRED = 3
    """The verdict was not sent, or the broker did not acknowledge it, before the last moment at which the
    gate can act or before the publisher ended."""
    UNACKNOWLEDGED = 4
    """The verdict was sent; the gateway did not answer in time, or it answered that the gate did not act."""

    @property
    def is_final(self) -> bool:
        return self is not Stage.CLOSED


MISSED = (Stage.EXPIRED, Stage.UNACKNOWLEDGED)
"""Stages in which the gate did not get a verdict in time, or did not confirm that it acts on it."""


@dataclass(frozen=True, slots=True)
class ScorerVerdict:
    """The scoring worker's verdict on a frame. Times are CLOCK_MONOTONIC nanoseconds."""

    verdict: Verdict
    reason: Reason
    score: float
    threshold: float
    started_ns: int
    scored_ns: int
    recipe_sha: str
    """Hexadecimal; empty when no recipe was in force."""
    snapshot: bool


@dataclass(frozen=True, slots=True)
class FinalVerdict:
    """A frame's one final verdict. `from_scorer`: it is the scoring worker's verdict, whose score may be NaN
    (no part, or a frame that could not be scored)."""

    verdict: Verdict
    reason: Reason
    from_scorer: bool
    snapshot: bool
    closed_ns: int
    closed_utc_ns: int
    challenge: int = 0
    """The number of the challenge part that the frame shows, from 1; 0 for a frame of production."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The publisher's counts of all frames up to the frame number `cursor`. The deliveries of all these
    frames have ended."""

    cursor: int = 0
    passed: int = 0
    rejected: int = 0
    missed_rejects: int = 0
    no_part: int = 0
    """The passed frames that showed no part."""
    uninspected: tuple[int, ...] = (0,) * len(Reason)
    """By `Reason` number."""
    challenges: tuple[int, int, int] = (0, 0, 0)
    """The frames that showed a challenge part: passed, rejected, uninspected. No other count has them, except
    for `missed_rejects`."""

    @property
    def frames(self) -> int:
        return self.passed + self.rejected + sum(self.uninspected) + sum(self.challenges)

    def add(self, closed: FinalVerdict, *, missed_reject: bool = False) -> Tally:
        """The same counts with one more verdict. `cursor` stays."""
        if closed.challenge:
            passed, rejected, unjudged = self.challenges
            challenges = (
                passed + (closed.verdict is Verdict.PASS),
                rejected + (closed.verdict is Verdict.REJECT),
                unjudged + (closed.verdict is Verdict.UNINSPECTED),
            )
            missed_rejects = self.missed_rejects + missed_reject
            return replace(self, challenges=challenges, missed_rejects=missed_rejects)
        uninspected = self.uninspected
        if closed.verdict is Verdict.UNINSPECTED:
            counted = list(uninspected)
            counted[closed.reason] += 1
            uninspected = tuple(counted)
        return Tally(
            cursor=self.cursor,
            passed=self.passed + (closed.verdict is Verdict.PASS),
            rejected=self.rejected + (closed.verdict is Verdict.REJECT),
            missed_rejects=self.missed_rejects + missed_reject,
            no_part=self.no_part + (closed.reason is Reason.NO_PART),
            uninspected=uninspected,
            challenges=self.challenges,
        )


class Ring:
    """One camera's ring. Any process may read it; each section and word has one worker that writes it."""

    def __init__(
        self, folder: Path, camera: str, session: uuid.UUID | None = None, *, writable: bool = True
    ) -> None:
        """Maps an existing ring, read-only unless `writable`. Raises RingError when it is missing, of another
        version, or of another session."""
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
        """Makes an empty ring for a new session. An existing ring is replaced."""
        boot = _boot()
        for name, size in ((f"{camera}.pixels", SLOTS * SLOT_STRIDE), (f"{camera}.ring", _SIZE)):
            fresh = folder / f"{name}.new"
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(handle, size)
                if name.endswith(".ring"):
                    # Without reserved memory, a later write to the ledger could end the process with SIGBUS.
                    os.posix_fallocate(handle, 0, size)
                    os.pwrite(handle, _HEADER.pack(_MAGIC, session.bytes, boot.bytes), 0)
            finally:
                os.close(handle)
            fresh.rename(folder / name)

    def close(self) -> None:
        """Unmaps the files, but does not delete them: other workers use them."""
        for name in ("_words", "_view"):
            if view := getattr(self, name, None):
                view.release()
        for name in ("_map", "_pixels"):
            if mapped := getattr(self, name, None):
                try:
                    mapped.close()
                except BufferError:
                    # A caller still holds an array of the pixels. The mapping ends with that array.
                    continue
        while self._files:
            os.close(self._files.pop())

    def _open(self, file: Path, size: int) -> mmap.mmap:
        handle = os.open(file, (os.O_RDWR if self._writable else os.O_RDONLY) | os.O_CLOEXEC)
        self._files.append(handle)
        return mmap.mmap(handle, size, access=mmap.ACCESS_WRITE if self._writable else mmap.ACCESS_READ)

    # Reading, for every process

    def is_of_this_boot(self) -> bool:
        """Whether the machine has not been restarted since the ring was made. If it has, the ring may lack
        its last writes."""
        return bool(_HEADER.unpack_from(self._map, 0)[2] == _boot().bytes)

    def last_frame(self) -> int:
        """The number of the newest frame; 0 before the first."""
        last = self._cursor()[1]
        while self.frame(last + 1) is not None:
            last += 1
        return last

    def overruns(self) -> int:
        """The number of exposures that got no frame because the ledger had no free record."""
        return self._cursor()[2]

    def frame(self, number: int) -> Frame | None:
        """The captured frame of that number; None when it is not yet, or no longer, in the ledger."""
        at = self._record_at(number)
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
        """Whether all pixels of the frame have been written to its slot."""
        return self._words[(self._record_at(number) + _FILLED_AT) // 8] == number

    def scorer_verdict(self, number: int) -> ScorerVerdict | None:
        """The scoring worker's verdict on the frame; None while it has none."""
        values = self._read(self._record_at(number) + _SCORED_AT, _SCORED)
        if values is None or values[0] != number:
            return None
        sha = values[9]
        return ScorerVerdict(
            verdict=Verdict(values[5]),
            reason=Reason(values[6]),
            score=values[1],
            threshold=values[2],
            started_ns=values[3],
            scored_ns=values[4],
            recipe_sha=sha.hex() if values[8] else "",
            snapshot=bool(values[7]),
        )

    def final_verdict(self, number: int) -> FinalVerdict | None:
        """The final verdict; None while the frame is open."""
        values = self._read(self._record_at(number) + _CLOSED_AT, _CLOSED)
        if values is None or values[0] != number:
            return None
        return FinalVerdict(
            verdict=Verdict(values[3]),
            reason=Reason(values[4]),
            from_scorer=bool(values[5]),
            snapshot=bool(values[6] & 1),
            closed_ns=values[1],
            closed_utc_ns=values[2],
            challenge=values[6] >> 1,
        )

    def stage(self, number: int) -> Stage:
        """How the delivery of the frame's verdict ended; CLOSED until it has ended."""
        owner, stage = divmod(self._words[(self._record_at(number) + _STAGE_AT) // 8], 8)
        return Stage(stage) if owner == number else Stage.CLOSED

    def sent_ns(self, number: int) -> int | None:
        """When the verdict was sent to the broker: known once its delivery has ended. None before that, for
        an expired verdict, and for a verdict without a topic."""
        if self.stage(number) in (Stage.CLOSED, Stage.EXPIRED):
            return None
        return self._words[(self._record_at(number) + _SENT_AT) // 8] or None

    def answered_ns(self, number: int) -> int | None:
        """When the gateway answered: known once the delivery has ended. None before that and without an
        answer."""
        if self.stage(number) not in (Stage.ACKNOWLEDGED, Stage.UNACKNOWLEDGED):
            return None
        return self._words[(self._record_at(number) + _ANSWERED_AT) // 8] or None

    def tally(self) -> Tally:
        """The publisher's counts; zero before the first frame."""
        values = self._newest(_TALLY_AT, _TALLY)
        if values is None:
            return Tally()
        return Tally(
            cursor=values[1],
            passed=values[2],
            rejected=values[3],
            missed_rejects=values[4],
            no_part=values[5],
            challenges=(values[6], values[7], values[8]),
            uninspected=tuple(values[9:]),
        )

    def pixels(self, frame: Frame) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The frame's pixels in its slot, (H, W) or (H, W, 3). They are overwritten after `release`: a caller
        that needs them longer must copy them."""
        raw = np.frombuffer(self._pixels, np.uint8, frame.nbytes, frame.slot * SLOT_STRIDE)
        if frame.format.bytes_per_channel == 2:
            return raw.view(np.uint16).reshape(frame.shape)
        return raw.reshape(frame.shape)

    def still_holds(self, frame: Frame) -> bool:
        """Whether no later frame has taken the frame's slot. A caller that copies the pixels and then gets
        True has the pixels of this frame only."""
        return frame.slot >= 0 and self._slot(frame.slot)[0] == frame.number

    # Called by the capture worker only

    def recover_capture(self) -> int:
        """Takes over from a dead capture worker: frees the slots that it left without all their pixels.
        Returns the number of the last frame; the next frame has that number plus one."""
        last = self.last_frame()
        self._write_cursor(last, self.overruns())
        for slot in range(SLOTS):
            taken, released = self._slot(slot)
            if taken != released and not self.is_filled(taken):
                self._set_word(_SLOTS_AT + slot * _SLOT_ENTRY, released)
        return last

    def reserve(self, frame_bytes: int) -> int:
        """Reserves the memory of the slots for frames of that size, so that no later write can fail.

        Returns the number of slots, which is lower when memory is short. Raises FrameTooLarge, and RingError
        when memory is short of four slots.
        """
        check_fits(frame_bytes)
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
        """The lowest free slot; None when all are taken. Low slots are reused most often, so their memory is
        likely in the processor's caches."""
        for slot in range(self._usable):
            taken, released = self._slot(slot)
            if taken == released:
                return slot
        return None

    def has_free_record(self, number: int) -> bool:
        """Whether the frame of that number may take its record in the ledger: the frame that had the record
        before is counted in the tally, so its delivery has ended."""
        return number - RECORDS <= self.tally().cursor

    def write_captured(self, frame: Frame) -> None:
        """Writes the next frame into the ledger and takes its slot. Every frame that is written gets a
        verdict. `fill` then makes it visible to the scoring worker."""
        self._write(
            self._record_at(frame.number) + _CAPTURED_AT,
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
        """Copies the pixels into the frame's slot and makes the frame visible to the scoring worker."""
        np.copyto(self.pixels(frame), pixels)
        self._set_word(self._record_at(frame.number) + _FILLED_AT, frame.number)

    def count_overrun(self) -> None:
        self._write_cursor(self._cursor()[1], self.overruns() + 1)

    # Called by the scoring worker only, except `unreleased_frames`

    def unreleased_frames(self) -> list[Frame]:
        """The frames with all their pixels whose slots the scoring worker has not released, by number. They
        are the scoring worker's work list, also after its restart."""
        frames = []
        for slot in range(SLOTS):
            taken, released = self._slot(slot)
            if taken != released and self.is_filled(taken) and (frame := self.frame(taken)):
                frames.append(frame)
        return sorted(frames, key=lambda frame: frame.number)

    def write_scored(self, number: int, scored: ScorerVerdict) -> None:
        self._write(
            self._record_at(number) + _SCORED_AT,
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
        """Frees the frame's slot for the capture worker."""
        self._set_word(_SLOTS_AT + frame.slot * _SLOT_ENTRY + 8, frame.number)

    # Called by the publisher only

    def write_closed(self, number: int, closed: FinalVerdict) -> None:
        self._write(
            self._record_at(number) + _CLOSED_AT,
            _CLOSED.pack(
                number,
                closed.closed_ns,
                closed.closed_utc_ns,
                closed.verdict,
                closed.reason,
                closed.from_scorer,
                closed.snapshot | closed.challenge << 1,
            ),
        )

    def write_stage(self, number: int, stage: Stage, sent_ns: int = 0, answered_ns: int = 0) -> None:
        """Writes how a delivery ended. The stage is written last, because it makes the two times valid."""
        at = self._record_at(number)
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
                *tally.challenges,
                *tally.uninspected,
            ),
        )

    # Bytes

    def _record_at(self, number: int) -> int:
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

    def _write(self, at: int, section: bytes) -> None:
        self._view[at : at + len(section) + _CRC.size] = section + _CRC.pack(zlib.crc32(section))

    def _read(self, at: int, layout: struct.Struct) -> tuple[Any, ...] | None:
        section = bytes(self._view[at : at + layout.size + _CRC.size])
        (crc,) = _CRC.unpack_from(section, layout.size)
        if zlib.crc32(section[: layout.size]) != crc:
            return None
        return layout.unpack_from(section)

    def _newest(self, at: int, layout: struct.Struct) -> tuple[Any, ...] | None:
        """The newest valid copy of a section that has two copies; None when both are empty or invalid. One
        copy is invalid when the section's writer died while it wrote that copy."""
        copies = [values for copy in (0, _COPY) if (values := self._read(at + copy, layout)) and values[0]]
        return max(copies, key=lambda values: values[0], default=None)

    def _write_copy(self, at: int, layout: struct.Struct, values: tuple[Any, ...]) -> None:
        newest = self._newest(at, layout)
        sequence = newest[0] + 1 if newest else 1
        self._write(at + (sequence % 2) * _COPY, layout.pack(sequence, *values))


def check_fits(frame_bytes: int) -> None:
    """Raises FrameTooLarge for a frame that is larger than a slot."""
    if frame_bytes > SLOT_STRIDE:
        raise FrameTooLarge(
            f"a frame of {frame_bytes} bytes is larger than a slot ({SLOT_STRIDE}): set roi, or Mono8"
        )


def _boot() -> uuid.UUID:
    return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
