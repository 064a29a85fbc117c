"""What the reports of a version and of a shift both show: parts, and entries of the record of changes.

It knows nothing of HTTP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from monitor.audit.entry import Entry, Head, Kind, decode_line, glance
from monitor.audit.trail import AuditError, AuditTrail
from monitor.review.entry_words import ListedChange, fold_reports
from monitor.review.pictures import Pictures
from monitor.review.printed_page import embed
from monitor.review.snapshot_files import Key, NoSuchSnapshot


@dataclass(frozen=True, slots=True)
class PictureOf:
    """A picture in the report, with what stands below it."""

    address: str
    text: str


def show_parts(pictures: Pictures, parts: Iterable[tuple[Key, str]]) -> list[PictureOf]:
    """The pictures of parts with their texts. A part whose picture was deleted is left out."""
    found = []
    for key, text in parts:
        try:
            found.append(PictureOf(embed(pictures.thumbnail(key), "jpeg"), text))
        except NoSuchSnapshot:
            continue
    return found


@dataclass(frozen=True, slots=True)
class RecordedEntries:
    """Some entries of the record of changes, oldest first, and the head of the whole record."""

    head: Head | None
    """None where the record can't be read."""
    entries: tuple[Entry, ...]
    problem: str = ""
    """Why the record can't be read, in one line."""

    @property
    def listed(self) -> list[ListedChange]:
        """The changes that people made, and what the line reported of each."""
        return fold_reports(entry for entry in self.entries if entry.kind != Kind.SETTING)

    @property
    def settings(self) -> list[ListedChange]:
        """The settings that the service started with or took over."""
        return [ListedChange(entry) for entry in self.entries if entry.kind == Kind.SETTING]


def read_entries(trail: AuditTrail, is_wanted: Callable[[Entry], bool], most: int) -> RecordedEntries:
    """The newest wanted entries, at most so many; an altered one is left out."""
    return read_lists(trail, [(is_wanted, most)])[0]


def read_lists(
    trail: AuditTrail, wanted: Sequence[tuple[Callable[[Entry], bool], int]]
) -> list[RecordedEntries]:
    """Several such lists from one reading of the record."""
    found: list[deque[bytes]] = [deque(maxlen=most) for _, most in wanted]
    try:
        for line in trail.lines():
            if (entry := glance(line)) is not None:
                for (is_wanted, _), lines in zip(wanted, found, strict=True):
                    if is_wanted(entry):
                        lines.append(line)
        head = trail.head()
    except AuditError as error:
        return [RecordedEntries(None, (), str(error))] * len(wanted)
    return [RecordedEntries(head, tuple(filter(None, map(decode_line, lines)))) for lines in found]
