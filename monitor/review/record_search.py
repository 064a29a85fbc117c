"""Finds entries in the record of changes, newest first, with a bound on what one search reads.

It knows nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.audit.entry import Entry, decode_line, glance
from monitor.audit.trail import AuditTrail
from monitor.review.record_filter import RecordFilter

PER_PAGE = 50
MOST_READ = 20_000
"""The lines that one search reads: it then says how far it came, and the next one goes on from there."""


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some entries, newest first."""

    entries: tuple[Entry | None, ...]
    """None: a line that is no entry, or was altered."""
    older: int | None
    """The place from which the search goes on; None: the record begins here."""
    is_cut: bool = False
    """Whether the search ended because it had read `MOST_READ` lines."""


def search(trail: AuditTrail, wanted: RecordFilter, before: int | None) -> RecordPage:
    """The newest wanted entries in front of that place in the file. Lines that are no entries are among them
    unless a filter is set. Raises AuditError."""
    found: list[Entry | None] = []
    for read, (at, line) in enumerate(trail.newest_lines(before), 1):
        entry = glance(line)
        if (entry is None and not wanted.query()) or (entry is not None and wanted.is_met(entry)):
            found.append(decode_line(line))
        if at and (len(found) == PER_PAGE or read == MOST_READ):
            return RecordPage(tuple(found), at, is_cut=len(found) < PER_PAGE)
    return RecordPage(tuple(found), None)
