"""The publisher's part of the record of changes: it adds entries on a thread, and knows the newest head.

It knows nothing of what is changed. The publisher's loop never waits for it. While the record can't be
written, changes wait here and are done nevertheless: a reset from the gateway must not fail because a disk is
full. `problem` then says what is missing. Changes that still wait when the process is killed are lost.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from monitor.audit.entry import Change, Head, Kind
from monitor.audit.trail import AuditError, AuditTrail
from monitor.system.printable import clean_line
from monitor.system.trouble_log import TroubleLog

HELD = 1_000
"""The most changes that wait. Further ones are lost and counted."""
_LOOK_EVERY_S = 2.0
"""How often the file is looked at for entries of other programs."""
_RETRY_S = 1.0
_NAMED = 5
"""The most settings that one line of the log names; `line-monitor audit` lists all."""


@dataclass(frozen=True, slots=True)
class RecordState:
    """The record of changes as `P/status` shows it."""

    head: Head | None = None
    """The newest entry; None until it was read for the first time."""
    problem: str | None = None
    """Why changes are missing in the record, in one line; None for a record with all of them."""


NOT_READ = RecordState()
"""Before the record was read for the first time."""


class ChangeRecord:
    """The record of one line, written by a thread."""

    def __init__(self, trail: AuditTrail, log: logging.Logger) -> None:
        self._trail, self._log = trail, log
        self._trouble = TroubleLog(
            log,
            began="%s; what is changed is done nevertheless and waits for its entry",
            ended=f"record of changes {trail.file}: all changes are recorded",
            log_changes=False,
        )
        self._changed = threading.Condition()
        self._waiting: deque[Change] = deque()
        self._lost = 0
        self._cut = ""
        """The message about a record that was cut or replaced since the start; empty for one that was not."""
        self._state = NOT_READ
        self._settings: list[Change] = []
        """The changed settings that are recorded and not logged yet: a start may have dozens of them."""
        self._closing = False
        # A daemon thread: a disk that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._thread.start()

    @property
    def state(self) -> RecordState:
        return self._state

    def put(self, change: Change) -> None:
        """Hands over a change that is done now. Returns at once and never raises."""
        with self._changed:
            if len(self._waiting) >= HELD:
                self._lost += 1
            else:
                self._waiting.append(change)
            self._changed.notify_all()

    def put_and_wait(self, change: Change, timeout_s: float) -> bool:
        """Hands over a change, and waits until all changes are recorded or none can be. Returns whether all
        are."""
        self.put(change)
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._trouble.trouble, timeout_s)
            return not self._waiting

    def close(self, timeout_s: float) -> bool:
        """Waits for the last entries. Returns whether all changes are recorded."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._waiting and not self._lost

    # Called on the thread only

    def _run(self) -> None:
        while True:
            # Once `close` was called, one more try is made.
            is_last = self._closing
            written = self._write()
            if self._look() and written:
                self._trouble.report("")
            if is_last:
                self._log_settings()
                return
            with self._changed:
                if written:
                    has_more = self._changed.wait_for(
                        lambda: self._closing or bool(self._waiting), _LOOK_EVERY_S
                    )
                else:
                    has_more = self._changed.wait_for(lambda: self._closing, _RETRY_S)
            if not has_more:
                self._log_settings()

    def _write(self) -> bool:
        """Adds the changes that wait, in their order. Returns whether none waits any more."""
        while True:
            with self._changed:
                if not self._waiting:
                    return True
                change = self._waiting[0]
            is_setting = change.kind is Kind.SETTING
            try:
                head = self._trail.append(change, is_logged=not is_setting)
            except AuditError as error:
                self._trouble.report(str(error))
                missing = len(self._waiting) + self._lost
                what = "change waits" if missing == 1 else "changes wait"
                self._state = RecordState(self._state.head, f"{missing} {what} for an entry: {error}")
                with self._changed:
                    self._changed.notify_all()
                return False
            if is_setting:
                self._settings.append(change)
            self._find_cut(self._state.head, head)
            with self._changed:
                self._waiting.popleft()
                self._state = RecordState(head, self._describe_lost())
                self._changed.notify_all()

    def _log_settings(self) -> None:
        """Logs the changed settings that were recorded in one go, in one line."""
        changes, self._settings = self._settings, []
        if not changes or self._state.head is None:
            return
        names = [clean_line(change.subject) for change in changes]
        what = f"setting {names[0]}" if len(names) == 1 else f"{len(names)} settings"
        listed = "" if len(names) == 1 else f": {', '.join(names[:_NAMED])}"
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        self._trail.log_entry(f"{what} by {clean_line(changes[-1].who)}{listed}{more}", self._state.head)

    def _describe_lost(self) -> str | None:
        lost = f"{self._lost} changes are not recorded" if self._lost else ""
        return "; ".join(filter(None, (lost, self._cut))) or None

    def _look(self) -> bool:
        """Reads the head, which other programs move on too. Logs it when it has moved. Returns whether it
        could be read."""
        before = self._state.head
        try:
            head = self._trail.head()
        except AuditError as error:
            self._trouble.report(str(error))
            self._state = RecordState(before, self._state.problem or str(error))
            return False
        if head != before and not self._find_cut(before, head):
            self._log.info("record of changes: head %s", head)
        self._state = RecordState(head, self._state.problem if self._waiting else self._describe_lost())
        return True

    def _find_cut(self, before: Head | None, head: Head) -> bool:
        """Whether the record was cut or replaced: a head that has moved has a higher number. `problem` then
        states it until the next start, since new entries hide it."""
        if before is None or head.count > before.count:
            return False
        self._cut = (
            f"record of changes {self._trail.file}: it had the head {before} and now has {head}: it was cut "
            "or replaced: find out why, then restart the line"
        )
        self._log.error("%s", self._cut)
        return True


def make_recorder(
    record: ChangeRecord, utc: Callable[[], str], wait_s: float
) -> Callable[[str, str, str | None, str | None, str], None]:
    """Makes the function that the journal's writer calls with each difference between the values in force:
    scope, what, old value, new value, who. It waits for the entry, so that a kill before the journal's commit
    repeats an entry and loses none."""

    def record_difference(scope: str, what: str, old: str | None, new: str | None, who: str) -> None:
        change = Change(kind_of(scope), who, what, old, new, "", utc(), via="service")
        record.put_and_wait(change, wait_s)

    return record_difference


def kind_of(scope: str) -> Kind:
    """The kind of a difference in that scope of the journal's values in force."""
    if scope == "settings":
        return Kind.SETTING
    return Kind.CHANGEOVER if scope.startswith("camera.") else Kind.IN_FORCE
