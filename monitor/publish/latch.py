"""The publisher's latch: set and lifted on the board, on disk and in the journal.

It knows nothing of frames or MQTT: its callers decide why the line is latched. A latch keeps `ready` false
until the line is reset. It must never be lifted without a reset.
"""

from __future__ import annotations

from collections.abc import Callable

from monitor import paths
from monitor.audit.entry import Change, Kind
from monitor.journal.recorder import Recorder
from monitor.line_state.board import Field
from monitor.line_state.latch_file import Latch, LatchFile, read_latch_and_parts
from monitor.line_state.latched_parts import NO_PARTS, LatchedPart, LatchedParts, read_parts, write_parts
from monitor.line_state.worker_process import PUBLISH, Worker
from monitor.publish.change_record import ChangeRecord
from monitor.verdict import Event, rfc3339

_SLOW_DISK_NS = 300_000_000
"""After this time a latch is published although it is not on disk: the disk hangs."""


class LineLatch:
    """The latch of one line. `clock` is CLOCK_MONOTONIC, `utc_ns` UTC, both in nanoseconds."""

    def __init__(
        self,
        worker: Worker,
        recorder: Recorder,
        changes: ChangeRecord,
        clock: Callable[[], int],
        utc_ns: Callable[[], int],
    ) -> None:
        self._worker, self._board, self._recorder, self._clock = worker, worker.board, recorder, clock
        self._changes, self._utc_ns = changes, utc_ns
        self._reset_topic = f"{worker.settings.prefix}/reset"
        self._file = LatchFile(paths.latch(worker.settings), worker.log, utc_ns)
        self._page = worker.settings.review.address
        self._set_ns = 0
        self._resume()

    @property
    def present(self) -> Latch:
        return Latch(self._board.read(PUBLISH, Field.LATCH))

    @property
    def parts(self) -> LatchedParts:
        """The parts for which the line is latched."""
        return read_parts(self._board)

    @property
    def reset_ns(self) -> int:
        """When the line was last reset; 0 before the first reset of this session."""
        return self._board.read(PUBLISH, Field.RESET_NS)

    def _resume(self) -> None:
        """Takes over the latch: of an earlier publisher of this session from the board, or of an earlier run
        of the service from disk."""
        if not self._board.read(PUBLISH, Field.EVER_RAN):
            latch, parts = read_latch_and_parts(paths.latch(self._worker.settings))
            if (carried := self.present).outranks(latch):
                # The supervisor wrote this latch to the board at the start: it belongs to a killed service
                # and could not be written to disk.
                latch, parts = carried, NO_PARTS
            write_parts(self._board, parts)
            self._board.write(PUBLISH, Field.LATCH, latch)
            if latch is not Latch.NONE:
                self._worker.log.error(
                    "the line is not ready until a message on %s: %s, from before the service was started%s",
                    self._reset_topic,
                    latch.word,
                    f": {parts.describe(self._page)}" if parts.parts else "",
                )
        self._file.put(self.present, self.parts)

    def applies_to(self, captured_ns: int) -> bool:
        """Whether a part that was captured then can latch the line. A part from before the session's first
        connection to the broker can't: the line was never ready until then, and no gateway knew of it."""
        connected_ns = self._board.read(PUBLISH, Field.EVER_CONNECTED)
        return 0 < connected_ns <= captured_ns

    def set(self, latch: Latch, camera: str, event: Event | None = None) -> None:
        """Latches the line because of that camera, and of that part if one is given. When the present latch
        is not outranked, only the part is added to those that a person must look for. Does nothing for
        NONE."""
        if latch is Latch.NONE:
            return
        present = self.present
        is_new = latch.outranks(present)
        if not is_new and (latch is not present or event is None):
            return
        before = NO_PARTS if is_new else self.parts
        parts = before.add(LatchedPart.of(event)) if event is not None else before
        if not is_new and parts == before:
            return
        write_parts(self._board, parts)
        if not is_new and (parts.parts, parts.more) == (before.parts, before.more):
            # Only their number has changed: in a flood of missed rejects the disk gets it at the end.
            return
        self._board.write(PUBLISH, Field.LATCH, latch)
        self._file.put(latch, parts)
        if not is_new:
            return
        self._set_ns = self._clock()
        self._recorder.record_latch(latch)
        self._worker.log.error(
            "camera %s: the line is not ready until a message on %s: %s%s",
            camera,
            self._reset_topic,
            latch.word,
            f": {parts.describe(self._page)}" if event is not None else "",
        )

    def reset(self, by: str | None = None) -> None:
        """Lifts the latch, without waiting for the journal and the record of changes: they get the reset once
        they can be written. `by` is the person who asked for it on the operators' page; None: the reset came
        over MQTT."""
        latch = self.present
        self._recorder.reset(latch, self._reset_topic if by is None else f"{by}, on the operators' page")
        if latch is not Latch.NONE:
            utc, known = rfc3339(self._utc_ns()), self.parts
            parts = known.count or len(known.parts)
            meaning = f"{parts} latched {'part' if parts == 1 else 'parts'} to look for" if parts else ""
            who, via = ("MQTT", self._reset_topic) if by is None else (by, "page")
            self._changes.put(Change(Kind.RESET, who, "latch", latch.word, None, meaning, utc, via=via))
        # The time of the reset is written before the latch is lifted: a publisher that is killed between the
        # two leaves the line latched.
        self._board.write(PUBLISH, Field.RESET_NS, self._clock())
        self._board.write(PUBLISH, Field.LATCH, Latch.NONE)
        write_parts(self._board, NO_PARTS)
        self._file.put(Latch.NONE)
        self._worker.log.info(
            "reset: %s", f"the latch {latch.word} is lifted" if latch.word else "no latch was set"
        )

    def may_be_published(self, now: int) -> bool:
        """Whether `P/status` may be published with the present latch: it is on disk, so that it outlives the
        service, or the disk hangs."""
        return self._file.is_written or now - self._set_ns > _SLOW_DISK_NS

    def close(self, timeout_s: float) -> bool:
        """Writes the latch with the number of its parts, and waits for the disk. Returns whether it is on
        disk."""
        self._file.put(self.present, self.parts)
        return self._file.close(timeout_s)
