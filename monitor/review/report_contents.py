"""What the reports of a version and of a shift both show: parts, and entries of the record of changes.

It knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from monitor.audit.entry import Entry, Head
from monitor.audit.trail import AuditError, AuditTrail
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


def read_entries(trail: AuditTrail, is_wanted: Callable[[Entry], bool], most: int) -> RecordedEntries:
    """The newest wanted entries, at most so many."""
    try:
        found = [entry for entry in trail.entries() if is_wanted(entry)]
        return RecordedEntries(trail.head(), tuple(found[-most:]))
    except AuditError as error:
        return RecordedEntries(None, (), str(error))
