"""The page of the record of changes: its entries, newest first, and whether the record is whole.

It knows nothing of how entries are found (`record_search`) or checked (`record_check`). It changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor import paths
from monitor.audit.entry import Head, HeadError
from monitor.audit.trail import AuditError, AuditTrail
from monitor.audit.verification import DOES_NOT_PROVE, PROVES
from monitor.model.version_summary import list_recipes
from monitor.review.entry_words import KINDS, name_kind, name_subject
from monitor.review.record_check import RecordChecks
from monitor.review.record_filter import RecordFilter
from monitor.review.record_search import MOST_READ, search
from monitor.settings import Settings
from monitor.verdict import rfc3339

_WAIT_S = 1.0
"""A short record is checked before the page is shown again."""


class RecordPages:
    """Registers its addresses with the application. `utc_ns` is the clock."""

    def __init__(
        self, app: Flask, settings: Settings, trail: AuditTrail, utc_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._recipes, self._trail, self._utc_ns = paths.recipes(settings), trail, utc_ns
        self._checks = RecordChecks(trail)
        app.jinja_env.globals.update(name_kind=name_kind, name_subject=name_subject)
        app.add_url_rule("/record", "record", self._show)
        app.add_url_rule("/record/verify", "record_verify", self._verify, methods=["POST"])

    def _show(self) -> str:
        wanted, before = RecordFilter.parse(request.args), request.args.get("before", "")
        if before and (not before.isdecimal() or len(before) > 15):
            abort(HTTPStatus.BAD_REQUEST, "There is no such place in the record.")
        try:
            head = self._trail.head()
            found = search(self._trail, wanted, int(before) if before else None)
        except AuditError as error:
            return self._render(wanted, problem=str(error))
        return self._render(wanted, head=head, found=found, is_newest=not before)

    def _render(self, wanted: RecordFilter, **values: object) -> str:
        defaults: dict[str, object] = {"head": None, "found": None, "is_newest": True, "problem": ""}
        return render_template(
            "record.html",
            wanted=wanted,
            kinds=KINDS,
            recipes=list_recipes(self._recipes),
            check=self._checks.last,
            proves=PROVES,
            does_not_prove=DOES_NOT_PROVE,
            most_read=MOST_READ,
            **{**defaults, **values},
        )

    def _verify(self) -> AnyResponse:
        text = request.form.get("against", "").strip()
        try:
            against = Head.parse(text) if text else None
        except HeadError as error:
            abort(HTTPStatus.BAD_REQUEST, f"{error}.")
        self._checks.start(against, rfc3339(self._utc_ns())).done.wait(_WAIT_S)
        return redirect(url_for("record", _anchor="check"), HTTPStatus.SEE_OTHER)
