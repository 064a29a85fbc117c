"""Whether the record of changes is whole: what was altered, removed or cut off, in words.

It knows nothing of files: it reads lines. A chain proves that nothing before its head was altered, as far
as that head is known from elsewhere (log, `P/status`, a report). Without such a head it proves only that no
entry was altered alone: a person who can write the file can also make the whole chain anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from monitor.audit.entry import EMPTY, Entry, Head, Kind, decode, digest_line

MOST_PROBLEMS = 20
PROVES = (
    "It proves: no entry was altered, inserted or removed alone. Compared with a head that was kept "
    "elsewhere (the service's log, the MQTT status, a report), it proves that all entries up to that head "
    "are as they were then."
)
DOES_NOT_PROVE = (
    "It does not prove: that nobody wrote the record anew after the newest head that was kept elsewhere; who "
    "sat at the keyboard, beyond the name and the password that were given; that a change around this "
    "program, as by copying files, was recorded; or the time, which is this machine's clock."
)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in the record."""

    head: Head
    """Of the newest entry that can be read."""
    problems: tuple[str, ...]
    """What was altered, removed or cut off, one line each, oldest first; empty for a whole record."""
    repaired: int
    """Incomplete lines from killed writers that a later entry states."""
    is_torn: bool
    """Whether the last line is incomplete: the next entry will state it."""

    @property
    def is_whole(self) -> bool:
        return not self.problems

    @property
    def notes(self) -> tuple[str, ...]:
        """What is no sign of an alteration, but must be known, one line each."""
        found = []
        if self.repaired:
            lines = "line of a writer that was" if self.repaired == 1 else "lines of writers that were"
            found.append(f"{self.repaired} incomplete {lines} interrupted; the next entry states it")
        if self.is_torn:
            found.append(
                "the last line is incomplete: its writer was interrupted, or the file was cut within it; a "
                "head that was kept elsewhere tells which"
            )
        return tuple(found)


def verify_lines(lines: Iterable[bytes], against: Head | None = None) -> Verification:
    """Checks lines as `AuditTrail.lines` gives them, and that the entry of `against` is among them."""
    checker = _Checker(against)
    for line in lines:
        checker.take(line)
    return checker.finish()


class _Checker:
    """Follows the chain line by line. After a problem it goes on from the entry that is there."""

    def __init__(self, against: Head | None) -> None:
        self._against = against
        self._is_against_found = against is None or against == EMPTY
        self._head = EMPTY
        self._number = 0
        self._problems: list[str] = []
        self._repaired = 0
        self._unread: tuple[bytes, str] | None = None
        """A line that is no entry, and what is wrong with it. The next entry may state it as incomplete."""

    def take(self, line: bytes) -> None:
        self._number += 1
        content = line.removesuffix(b"\n")
        try:
            entry = self._decode(content, has_break=content != line)
        except ValueError as error:
            self._report_unread()
            self._unread = content, f"line {self._number}: {error}"
            return
        self._follow(entry)

    def _decode(self, content: bytes, *, has_break: bool) -> Entry:
        """The line's entry. The next one counts also where only its line break is missing, as for the writer.
        Raises ValueError."""
        try:
            entry = decode(content)
        except ValueError:
            if has_break:
                raise
        else:
            if has_break or (entry.previous, entry.n) == (self._head.hash, self._head.count + 1):
                return entry
        raise ValueError("is incomplete")

    def _follow(self, entry: Entry) -> None:
        is_repair = entry.kind == Kind.REPAIR
        if is_repair and self._unread is not None and entry.before == digest_line(self._unread[0]):
            self._unread = None
            self._repaired += 1
        if entry.kind != Kind.BEGIN:
            self._report_unread()
        if (entry.previous, entry.n) != (self._head.hash, self._head.count + 1):
            self._report(
                f"line {self._number}: entry {entry.n} does not follow entry {self._head.count}: "
                "an entry before it was altered, inserted or removed"
            )
        self._head = entry.head
        if self._against is not None and self._against.hash == entry.hash:
            self._is_against_found = self._against.count in (0, entry.n)

    def _report_unread(self) -> None:
        if self._unread is not None:
            self._report(self._unread[1])
            self._unread = None

    def _report(self, problem: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(problem)

    def finish(self) -> Verification:
        is_torn = self._unread is not None and self._unread[1].endswith("is incomplete")
        if is_torn:
            self._unread = None
        self._report_unread()
        if not self._is_against_found and self._against is not None:
            self._problems.append(_explain_missing(self._head, self._against))
        return Verification(self._head, tuple(self._problems), self._repaired, is_torn)


def _explain_missing(head: Head, against: Head) -> str:
    if against.count > head.count:
        missing = against.count - head.count
        return (
            f"the record ends with entry {head.count}, but the given head is that of entry {against.count}: "
            f"{missing} {'entry was' if missing == 1 else 'entries were'} cut off at the end"
        )
    if against.count:
        return f"entry {against.count} is not the one of the given head: the record was written anew"
    return "no entry has the given hash: entries were cut off, or the record was written anew"
