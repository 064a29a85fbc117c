"""The parts for which the line is latched: camera, time and picture, by which a person looks for them.

It knows nothing of why a part latches the line. The parts are on the board and in `latch.json`.
"""

from __future__ import annotations

import msgspec

from monitor.line_state.board import Board, Note
from monitor.line_state.worker_process import PUBLISH
from monitor.verdict import Event, rfc3339

MOST = 3
"""The most parts that are named, so that a status stays small; the others are counted, and in the journal."""


class LatchedPart(msgspec.Struct, frozen=True):
    """One part. The field names are in `P/status`, on the board and on disk."""

    camera: str
    frame: int
    captured_utc: str
    snapshot: str | None = None
    """The `.jpg`'s path below `snapshots/`; None where there is no picture."""

    @staticmethod
    def of(event: Event) -> LatchedPart:
        return LatchedPart(event.camera, event.frame, rfc3339(event.captured_utc_ns), event.snapshot)

    def link(self, page: str | None) -> str | None:
        """The address of the part on the operators' page at `page`; None without a picture or a page."""
        return f"{page}/part/{self.snapshot.removesuffix('.jpg')}" if page and self.snapshot else None

    def describe(self, page: str | None = None) -> str:
        """In words for logs, as in `camera top, frame 7, captured 2026-11-23T18:00:00.123Z, no picture`."""
        picture = self.link(page) or (f"snapshots/{self.snapshot}" if self.snapshot else "no picture")
        return f"camera {self.camera}, frame {self.frame}, captured {self.captured_utc}, {picture}"


class LatchedParts(msgspec.Struct, frozen=True):
    """The first parts since the line was latched."""

    parts: tuple[LatchedPart, ...] = ()
    more: bool = False
    """Whether there are more than are named."""
    beyond: int = 0
    """How many more there are; 0 with `more` where an earlier version did not count them. `P/status` lacks
    it: a flood of missed rejects must not become a flood of messages."""

    @property
    def count(self) -> int | None:
        """The number of all parts; None where they were not counted."""
        return None if self.more and not self.beyond else len(self.parts) + self.beyond

    def add(self, part: LatchedPart) -> LatchedParts:
        """With that part. A part beyond those that are named is counted each time: the caller adds it
        once."""
        if part in self.parts:
            return self
        if len(self.parts) >= MOST:
            return self.add_unnamed(1)
        return LatchedParts((*self.parts, part), self.more, self.beyond)

    def add_unnamed(self, number: int) -> LatchedParts:
        """With so many further parts that are only counted."""
        if number <= 0:
            return self
        return LatchedParts(self.parts, more=True, beyond=0 if self.count is None else self.beyond + number)

    def merge(self, other: LatchedParts) -> LatchedParts:
        """Two records of one latch, of which one may be older: a part that is only counted is in both."""
        merged = self
        for part in other.parts:
            merged = merged.add(part)
        return LatchedParts(merged.parts, merged.more or other.more, max(merged.beyond, other.beyond))

    def payload(self, page: str | None) -> dict[str, object]:
        """For `P/status`; `page` is the address of the operators' page."""
        parts = [{**msgspec.structs.asdict(part), "link": part.link(page)} for part in self.parts]
        return {"parts": parts, "more": self.more}

    def describe(self, page: str | None = None) -> str:
        """All parts in words; empty where none is known."""
        named = [part.describe(page) for part in self.parts]
        more = [f"{self.beyond or ''} more in the journal".lstrip()] if self.more else []
        return "; ".join([*named, *more])


NO_PARTS = LatchedParts()


def write_parts(board: Board, parts: LatchedParts) -> None:
    board.write_note(PUBLISH, Note.LATCHED, msgspec.msgpack.encode(parts))


def read_parts(board: Board) -> LatchedParts:
    """The parts on the board; none where a part of the note is not written yet."""
    try:
        return msgspec.msgpack.decode(board.read_note(PUBLISH, Note.LATCHED), type=LatchedParts)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return NO_PARTS
