"""Checks on a thread that the record of changes is whole, while the page goes on.

It knows nothing of HTTP, nor of how a record is checked: `audit.verification` does it.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from monitor.audit.entry import Head
from monitor.audit.trail import AuditError, AuditTrail
from monitor.audit.verification import Verification


@dataclass(slots=True)
class RecordCheck:
    """One check, from the request to its result."""

    against: Head | None
    utc: str
    """When it was asked for."""
    found: Verification | None = None
    problem: str = ""
    """Why there is no result, in one line."""
    done: threading.Event = field(default_factory=threading.Event)


class RecordChecks:
    """Runs one check at a time; a new one replaces a finished one. Safe for several threads."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail
        self._lock = threading.Lock()
        self.last: RecordCheck | None = None

    def start(self, against: Head | None, utc: str) -> RecordCheck:
        """The check that was begun; the one that runs where there is one."""
        with self._lock:
            if self.last is not None and not self.last.done.is_set():
                return self.last
            check = self.last = RecordCheck(against, utc)
        threading.Thread(target=self._work, args=(check,), name="record check", daemon=True).start()
        return check

    def _work(self, check: RecordCheck) -> None:
        try:
            check.found = self._trail.verify(check.against)
        except AuditError as error:
            check.problem = str(error)
        except Exception:
            # Without a result the page would wait for ever.
            logging.getLogger(__name__).exception("the check of the record failed")
            check.problem = "the check failed: the service's log has the reason"
        finally:
            check.done.set()
