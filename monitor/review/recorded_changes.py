"""Changes that people make on the page, each with its entry in the record of changes.

It knows nothing of what is changed. A change that can't be recorded is not done: the request ends with one
line.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import NoReturn

from flask import abort, g, request

from monitor.accounts.signature import NOBODY, Refusal, Signature
from monitor.audit.entry import Change, Head, Kind
from monitor.audit.trail import AuditError, AuditTrail
from monitor.names import join_version
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
            signature.statement if signature else meaning,
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

    def record_refused_form(self, why: str) -> None:
        """Records that the present request's person may not do this. Nothing was done, so an entry that can't
        be written is only logged."""
        try:
            self._trail.append(_refuse(why, self._utc()))
        except AuditError as error:
            logging.getLogger(__name__).error("%s", error)

    def _utc(self) -> str:
        return rfc3339(self._utc_ns())


def describe_refusal(meaning: str, refusal: Refusal, utc: str) -> Change:
    """The entry for a refused signature of the present request: who is signed in, and what was to be signed
    as whom. It never has what was typed as a name unless it is that of an account."""
    return _refuse(refusal.explain(meaning), utc)


def _refuse(why: str, utc: str) -> Change:
    who = g.session.by if "session" in g else ""
    return Change(Kind.REFUSED, who or NOBODY, name_act(), None, None, why, utc, via=describe_way())


def name_act() -> str:
    """What the present form is about: a version, a recipe or a set; the form's name where it names none."""
    values = request.view_args or {}
    recipe, number = values.get("recipe"), values.get("number")
    if recipe:
        return join_version(recipe, number) if number is not None else f"recipe.{recipe}"
    return f"set {values['name']}" if "name" in values else request.endpoint or request.path


def describe_way() -> str:
    """How the present request came, for the record of changes."""
    return f"page, from {request.remote_addr or 'an unknown address'}"


def refuse_unrecorded(error: AuditError) -> NoReturn:
    """Ends the present request with one line: a change that can't be recorded is not done."""
    abort(HTTPStatus.SERVICE_UNAVAILABLE, f"Not done, since it can't be recorded: {error}.")
