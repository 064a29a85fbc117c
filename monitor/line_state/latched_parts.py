"""The parts for which the line is latched: camera, time and picture, by which a person looks for them.

It knows nothing of why a part latches the line. The parts are on the board and in `latch.json`.
"""

from __future__ import annotations

import msgspec

from monitor.line_state.board import Board, Note
from monitor.line_state.worker_process import PUBLISH
from monitor.verdict import Event, rfc3339

MOST = 3
"""The most parts that are named, so that a status stays small; the journal has all."""


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

    def add(self, part: LatchedPart) -> LatchedParts:
        if part in self.parts:
            return self
        if len(self.parts) >= MOST:
            return LatchedParts(self.parts, more=True)
        return LatchedParts((*self.parts, part), self.more)

    def payload(self, page: str | None) -> dict[str, object]:
        """For `P/status`; `page` is the address of the operators' page."""
        parts = [{**msgspec.structs.asdict(part), "link": part.link(page)} for part in self.parts]
        return {"parts": parts, "more": self.more}

    def describe(self, page: str | None = None) -> str:
        """All parts in words; empty where none is known."""
        named = [part.describe(page) for part in self.parts]
        return "; ".join([*named, *(["more in the journal"] if self.more else [])])


NO_PARTS = LatchedParts()


def write_parts(board: Board, parts: LatchedParts) -> None:
    board.write_note(PUBLISH, Note.LATCHED, msgspec.msgpack.encode(parts))


def read_parts(board: Board) -> LatchedParts:
    """The parts on the board; none where a part of the note is not written yet."""
    try:
        return msgspec.msgpack.decode(board.read_note(PUBLISH, Note.LATCHED), type=LatchedParts)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return NO_PARTS
