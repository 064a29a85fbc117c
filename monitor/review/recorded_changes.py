"""Changes that people make on the page, each with its entry in the record of changes.

It knows nothing of what is changed. A change that can't be recorded is not done: the request ends with one
line.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import NoReturn

from flask import abort, g, request

from monitor.accounts.signature import NOBODY, Signature
from monitor.audit.entry import Change, Head, Kind
from monitor.audit.trail import AuditError, AuditTrail
from monitor.verdict import rfc3339


class RecordedChanges:
    """The changes of the page's requests. `utc_ns` is the clock."""

    def __init__(self, trail: AuditTrail, utc_ns: Callable[[], int] = time.time_ns) -> None:
        self._trail, self._utc_ns = trail, utc_ns

    @contextlib.contextmanager
    def recording(
        self,
        kind: Kind,
        subject: str,
        before: str | None,
        after: str | None,
        *,
        meaning: str = "",
        signature: Signature | None = None,
    ) -> Iterator[Head]:
        """Records a change of the present request's person, then runs the block that does it.

        When the block raises, a second entry states that it was not done. Ends the request with one line
        where the record can't be written.
        """
        change = Change(
            kind,
            signature.name if signature else g.session.by or NOBODY,
            subject,
            before,
            after,
            signature.meaning if signature else meaning,
            self._utc(),
            via=describe_way(),
            signed=signature is not None and signature.is_proven,
        )
        with contextlib.ExitStack() as stack:
            try:
                head = stack.enter_context(self._trail.recording(change, self._utc))
            except AuditError as error:
                refuse_unrecorded(error)
            yield head

    def _utc(self) -> str:
        return rfc3339(self._utc_ns())


def describe_way() -> str:
    """How the present request came, for the record of changes."""
    return f"page, from {request.remote_addr or 'an unknown address'}"


def refuse_unrecorded(error: AuditError) -> NoReturn:
    """Ends the present request with one line: a change that can't be recorded is not done."""
    abort(HTTPStatus.SERVICE_UNAVAILABLE, f"Not done, since it can't be recorded: {error}.")
