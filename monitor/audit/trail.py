"""The record of changes on disk: `line.data/audit.jsonl`, one entry a line, to which entries are only added.

It knows nothing of what is changed. Several programs write to it (the service, the page, commands): one at
a time, by a lock on the file. An entry is on disk when `append` returns. Nothing that was written is ever
altered or deleted: an incomplete last line stays, and the next entry states it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from monitor import paths
from monitor.audit.entry import (
    EMPTY,
    MAX_LINE_BYTES,
    Change,
    Entry,
    Head,
    Kind,
    decode,
    decode_line,
    digest_line,
    encode,
    follow,
)
from monitor.audit.verification import Verification, verify_lines
from monitor.errors import LineMonitorError
from monitor.settings import Settings
from monitor.system.atomic_file import sync_folder
from monitor.system.file_owner import give_to_folders_owner
from monitor.system.printable import clean_line

_LOCK_S = 5.0
"""The longest wait for another writer, which holds the lock for one write to disk."""
_LOCK_RETRY_S = 0.01
_END_BYTES = 2 * MAX_LINE_BYTES
"""The end of the file in which the newest entry is looked for."""
_MODE = 0o640


class AuditError(LineMonitorError):
    """The record can't be read or written. The message is one line with the file and the fix."""


@dataclass(frozen=True, slots=True)
class _End:
    """How the file ends."""

    head: Head
    torn: bytes
    """The incomplete line behind the newest entry."""
    has_break: bool
    """Whether the last line ends with a line break."""


class AuditTrail:
    """The record in one file, which the first entry makes. Safe for several threads and programs.

    `line` is the line's name as the first entry states it.
    """

    def __init__(self, file: Path, line: str = "", log: logging.Logger | None = None) -> None:
        self.file, self._line = file, line
        self._log = log or logging.getLogger(__name__)

    @classmethod
    def of(cls, settings: Settings, log: logging.Logger | None = None) -> AuditTrail:
        """The record of one line."""
        return cls(paths.audit(settings), f"{settings.line.site}/{settings.line.name}", log)

    def append(self, change: Change, *, is_logged: bool = True) -> Head:
        """Adds one entry and returns the new head. The entry is on disk when it returns. `is_logged`: the log
        gets a line with the head; otherwise the caller logs it.

        Raises AuditError; the record is then as before, or ends with an incomplete line.
        """
        try:
            with self._locked() as handle:
                head = self._append(handle, change)
        except OSError as error:
            raise self._error(error, "written") from None
        if is_logged:
            self.log_entry(f"{change.kind} {clean_line(change.subject)} by {clean_line(change.who)}", head)
        return head

    def log_entry(self, what: str, head: Head) -> None:
        """Logs what was recorded, with the head after it."""
        self._log.info("record of changes: %s; head %s", what, head)

    @contextlib.contextmanager
    def recording(self, change: Change, failed: Callable[[], str]) -> Iterator[Head]:
        """Adds the entry, then runs the block that does the change.

        When the block raises, another entry states that the change was not done. `failed` gives its time.
        Raises AuditError before the block has begun: a change that can't be recorded is not done.
        """
        head = self.append(change)
        try:
            yield head
        except BaseException as error:
            why = f"not done, entry {head.count} does not count: {error or type(error).__name__}"
            undone = replace(
                change, before=change.after, after=change.before, meaning=why, utc=failed(), signed=False
            )
            try:
                self.append(undone)
            except AuditError as trouble:
                self._log.error("%s; entry %d was not done: %s", trouble, head.count, error)
            raise

    def head(self) -> Head:
        """The newest entry's number and hash, read from the end of the file. Raises AuditError."""
        try:
            handle = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            raise self._error(error, "read") from None
        try:
            return self._read_end(handle).head
        except OSError as error:
            raise self._error(error, "read") from None
        finally:
            os.close(handle)

    def lines(self) -> Iterator[bytes]:
        """The file's lines with their line breaks, oldest first; a very long one in pieces. Raises
        AuditError."""
        try:
            with self.file.open("rb") as opened:
                while line := opened.readline(_END_BYTES):
                    yield line
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._error(error, "read") from None

    def newest_lines(self, before: int | None = None) -> Iterator[tuple[int, bytes]]:
        """The file's lines with their line breaks, newest first, each with its place in the file; `before`:
        only those in front of that place. Only what is asked for is read. Raises AuditError."""
        try:
            with self.file.open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                at, rest = size if before is None else min(before, size), b""
                while at:
                    start = max(0, at - _END_BYTES)
                    content, end = os.pread(opened.fileno(), at - start, start) + rest, at + len(rest)
                    lines = re.findall(rb"[^\n]*\n|[^\n]+", content)
                    rest = lines.pop(0) if start else b""
                    if len(rest) > _END_BYTES:
                        raise OSError(errno.EBADMSG, "a line is too long")
                    for line in reversed(lines):
                        end -= len(line)
                        yield end, line
                    at = start
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._error(error, "read") from None

    def entries(self) -> Iterator[Entry]:
        """The readable entries, oldest first. Lines that are none are left out: `verification` finds them.
        Raises AuditError."""
        yield from filter(None, map(decode_line, self.lines()))

    def verify(self, against: Head | None = None) -> Verification:
        """Whether the record is whole, and contains the entry of a head that was kept elsewhere. Raises
        AuditError."""
        return verify_lines(self.lines(), against)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, open for writing and locked. Raises OSError."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self.file, flags, _MODE)
        try:
            self._lock(handle)
            if os.fstat(handle).st_size == 0:
                give_to_folders_owner(handle, self.file.parent)
            yield handle
        finally:
            os.close(handle)

    @staticmethod
    def _lock(handle: int) -> None:
        until = time.monotonic() + _LOCK_S
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TimeoutError(errno.ETIMEDOUT, "another program has it locked") from None
                time.sleep(_LOCK_RETRY_S)

    def _append(self, handle: int, change: Change) -> Head:
        size = os.fstat(handle).st_size
        end = self._read_end(handle)
        head, added = end.head, b"" if end.has_break else b"\n"
        if head == EMPTY:
            machine = f"machine {socket.gethostname()}"
            begin = Change(Kind.BEGIN, "line-monitor", self._line, None, machine, "", change.utc)
            entry = follow(head, begin)
            head, added = entry.head, added + encode(entry)
        if end.torn:
            entry = follow(head, _repair(end.torn, change.utc))
            head, added = entry.head, added + encode(entry)
            self._log.warning("%s: the last line was incomplete; entry %d states that", self.file, head.count)
        entry = follow(head, change)
        try:
            _write(handle, added + encode(entry))
            os.fsync(handle)
            if size == 0:
                sync_folder(self.file.parent)
        except OSError:
            # An entry that its author takes for refused is not left in the record.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise
        return entry.head

    @staticmethod
    def _read_end(handle: int) -> _End:
        """Raises OSError, also where the last complete line is no entry: nothing can follow it."""
        size = os.fstat(handle).st_size
        content = os.pread(handle, _END_BYTES, max(0, size - _END_BYTES))
        whole, line_break, rest = content.rpartition(b"\n")
        try:
            if not line_break and size >= _END_BYTES:
                raise ValueError("is too long")
            head = decode(whole.rpartition(b"\n")[2]).head if line_break else EMPTY
        except ValueError as error:
            raise OSError(
                errno.EBADMSG, f"the last line {error}; `line-monitor audit verify` shows what was altered"
            ) from None
        try:
            unbroken = decode(rest)
        except ValueError:
            return _End(head, rest, has_break=not rest)
        # Only the line break is missing: the entry is whole.
        if (unbroken.n, unbroken.previous) == (head.count + 1, head.hash):
            return _End(unbroken.head, b"", has_break=False)
        return _End(head, rest, has_break=False)

    def _error(self, error: OSError, done: str) -> AuditError:
        why = error.strerror or str(error)
        fix = {
            errno.ENOSPC: "free some disk space",
            errno.EDQUOT: "free some disk space",
            errno.EROFS: "mount the disk for writing",
            errno.EACCES: "run this as the service's user, or give it the file",
            errno.EBADMSG: "move the file away to begin a new record",
        }.get(error.errno or 0)
        return AuditError(f"record of changes {self.file} can't be {done}: {why}{f': {fix}' if fix else ''}")


def _repair(torn: bytes, utc: str) -> Change:
    meaning = "the line before was incomplete: its writer was killed, lost its power or found the disk full"
    return Change(Kind.REPAIR, "line-monitor", "audit", digest_line(torn), None, meaning, utc)


def _write(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
