"""The page of a set of recipes, which puts all of them in force at once.

It knows nothing of how a set is put in force (`set_changeover`).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, abort, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.accounts.permissions import Permission
from monitor.audit.trail import AuditError
from monitor.errors import LineMonitorError
from monitor.review.line_view import LineView
from monitor.review.recorded_changes import describe_way, refuse_unrecorded
from monitor.review.set_changeover import SetChangeover, state_set
from monitor.review.signature_form import SignatureForm
from monitor.settings import Settings


class SetPages:
    """Registers its addresses with the application."""

    def __init__(
        self, app: Flask, settings: Settings, view: LineView, sets: SetChangeover, signatures: SignatureForm
    ) -> None:
        self._settings, self._view, self._sets, self._signatures = settings, view, sets, signatures
        app.add_url_rule("/sets/<name>", "recipe_set", self._set)
        app.add_url_rule("/sets/<name>/use", "recipe_set_use", self._use_set, methods=["POST"])

    def _set(self, name: str) -> str:
        return render_template(
            "recipe_set.html",
            name=name,
            recipes=self._find_set(name),
            meaning=state_set(name),
            signing=self._signatures.template_values(Permission.USE),
        )

    def _use_set(self, name: str) -> AnyResponse:
        self._find_set(name)
        try:
            self._sets.check(name)
            signature = self._signatures.take(Permission.USE, state_set(name))
            self._sets.use(name, signature, describe_way(), is_running=self._view.is_running())
        except AuditError as error:
            refuse_unrecorded(error)
        except LineMonitorError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        return redirect(url_for("recipes"), HTTPStatus.SEE_OTHER)

    def _find_set(self, name: str) -> Mapping[str, str]:
        if name not in self._settings.recipes.sets:
            abort(HTTPStatus.NOT_FOUND, "There is no such set in the settings.")
        return self._settings.recipes.sets[name]
