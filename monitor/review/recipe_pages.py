"""The pages of recipes: their versions with lineage, two versions side by side, put in force, go back.

It knows nothing of how a version is put in force (`version_changes`) or compared (`comparison_job`).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.accounts.permissions import Permission
from monitor.audit.trail import AuditError
from monitor.errors import LineMonitorError
from monitor.model.in_force import find_step_back, read_in_force
from monitor.model.recipe_json import REFERENCE, RecipeError
from monitor.model.version_files import VersionFile, find_version
from monitor.model.version_summary import VersionSummary, list_recipes, summarise
from monitor.review.comparison_job import ComparisonError, ComparisonJob, ComparisonJobs, ComparisonState
from monitor.review.filters import RECIPE
from monitor.review.histogram import Plot, plot
from monitor.review.judged_cameras import VersionUse, find_use
from monitor.review.line_view import LineView
from monitor.review.recorded_changes import describe_way, refuse_unrecorded
from monitor.review.set_changeover import SetChangeover, state_set
from monitor.review.signature_form import SignatureForm
from monitor.review.snapshot_files import find_key
from monitor.review.version_changes import APPROVED, VersionChanges, state_rollback
from monitor.review.version_notices import find_notices
from monitor.review.version_warnings import warn_of_version
from monitor.settings import Settings
from monitor.verdict import Verdict

_MOST_PARTS = 60
"""The most parts whose verdict would change that the page shows."""


class RecipePages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        view: LineView,
        changes: VersionChanges,
        sets: SetChangeover,
        jobs: ComparisonJobs,
        signatures: SignatureForm,
        recipes: Path,
    ) -> None:
        self._settings, self._view, self._changes, self._sets = settings, view, changes, sets
        self._jobs, self._signatures, self._recipes = jobs, signatures, recipes
        app.jinja_env.globals["version_notices"] = lambda: find_notices(recipes, settings, view)
        version = "/recipes/<recipe>/<int:number>"
        app.add_url_rule("/recipes", "recipes", self._list)
        app.add_url_rule(version, "version", self._version)
        app.add_url_rule(f"{version}/use", "version_use", self._use, methods=["POST"])
        app.add_url_rule("/sets/<name>", "recipe_set", self._set)
        app.add_url_rule("/sets/<name>/use", "recipe_set_use", self._use_set, methods=["POST"])
        app.add_url_rule("/recipes/<recipe>/compare", "version_comparison", self._comparison)
        app.add_url_rule(
            "/recipes/<recipe>/compare/start", "version_compare", self._compare, methods=["POST"]
        )

    def _list(self) -> str:
        recipes = []
        for name in list_recipes(self._recipes):
            folder = self._recipes / name
            try:
                summaries, problem = summarise(folder)[::-1], ""
                document = read_in_force(folder)
                back = find_step_back(folder) if document and document.before else None
            except RecipeError as error:
                summaries, problem, back = [], str(error), None
            recipes.append(
                {
                    "name": name,
                    "versions": summaries,
                    "problem": problem,
                    "back": back,
                    "judges": self._judges(name),
                }
            )
        return render_template("recipes.html", recipes=recipes, sets=self._settings.recipes.sets)

    def _judges(self, recipe: str) -> list[tuple[str, int | None]]:
        """The cameras whose parts the recipe judges now, each with the version."""
        found = []
        for camera in self._settings.camera:
            status = self._view.recipe_status(camera.name)
            if status and status.in_force and status.in_force.recipe == recipe:
                found.append((camera.name, status.in_force.version))
        return found

    def _version(self, recipe: str, number: int) -> str:
        summary, present = self._find(recipe, number)
        back = request.args.get("back") == "1"
        return render_template(
            "version.html",
            recipe=recipe,
            summary=summary,
            use=self._find_use(summary),
            present=present,
            calibration=summary.document.calibration.get(REFERENCE) if summary.document else None,
            warnings=warn_of_version(present, summary),
            meaning=_meaning(recipe, number, back=back),
            back=back,
            signing=self._signatures.template_values(self._changes.find_permission(recipe, number)),
        )

    def _find_use(self, summary: VersionSummary) -> VersionUse:
        configured = {camera.name: camera.recipe for camera in self._settings.camera}
        return find_use(summary.version, self._view.judges(configured), configured)

    def _use(self, recipe: str, number: int) -> AnyResponse:
        summary, present = self._find(recipe, number)
        back = request.form.get("back") == "1"
        try:
            permission = self._changes.find_permission(recipe, number)
            if back and find_step_back(self._recipes / recipe) != number:
                abort(HTTPStatus.CONFLICT, "Another version was put in force since: load the page again.")
            meaning = _meaning(recipe, number, back=back)
            signature = self._signatures.take(permission, meaning, warn_of_version(present, summary))
            if back:
                self._changes.roll_back(recipe, signature, permission, describe_way())
            else:
                self._changes.use(recipe, number, signature, permission, describe_way())
        except AuditError as error:
            refuse_unrecorded(error)
        except LineMonitorError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        return redirect(url_for("recipes"), HTTPStatus.SEE_OTHER)

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

    def _compare(self, recipe: str) -> AnyResponse:
        one, other = (self._named(recipe, request.form.get(key, "")) for key in ("one", "other"))
        if one == other:
            abort(HTTPStatus.BAD_REQUEST, "Choose two different versions.")
        try:
            self._jobs.start(one, other)
        except ComparisonError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        return redirect(url_for("version_comparison", recipe=recipe), HTTPStatus.SEE_OTHER)

    def _comparison(self, recipe: str) -> AnyResponse | str:
        job = self._jobs.job
        if job is None or job.one.folder.name != recipe:
            return redirect(url_for("recipes"), HTTPStatus.SEE_OTHER)
        result = job.result
        changed = result.changed if result else []
        return render_template(
            "version_comparison.html",
            recipe=recipe,
            job=job,
            states=ComparisonState,
            result=result,
            verdicts=Verdict,
            plot=_plot(job),
            changed=[(image, find_key(image.file)) for image in changed[:_MOST_PARTS]],
            more=len(changed) - _MOST_PARTS,
        )

    def _find(self, recipe: str, number: int) -> tuple[VersionSummary, VersionSummary | None]:
        """The version, and the one in force. Ends the request with one line where there is none."""
        self._check(recipe)
        try:
            summaries = summarise(self._recipes / recipe)
        except RecipeError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        for summary in summaries:
            if summary.version.number == number:
                return summary, next((one for one in summaries if one.is_in_force), None)
        abort(HTTPStatus.NOT_FOUND, f"There is no version {number} of recipe {recipe}.")

    def _named(self, recipe: str, number: str) -> VersionFile:
        self._check(recipe)
        if not number.isdecimal() or len(number) > 9:
            abort(HTTPStatus.BAD_REQUEST, "Choose two versions.")
        try:
            return find_version(self._recipes / recipe, int(number))
        except RecipeError as error:
            abort(HTTPStatus.NOT_FOUND, f"{error}.")

    def _check(self, recipe: str) -> None:
        if not RECIPE.fullmatch(recipe) or not (self._recipes / recipe).is_dir():
            abort(HTTPStatus.NOT_FOUND, "There is no such recipe.")


def _meaning(recipe: str, number: int, *, back: bool) -> str:
    return state_rollback(recipe, number) if back else APPROVED


def _plot(job: ComparisonJob) -> Plot | None:
    if job.result is None:
        return None
    images = job.result.images
    rows = {
        job.result.one: {"passed": [image.one for image in images]},
        job.result.other: {"passed": [image.other for image in images]},
    }
    return plot(rows, {"threshold": 1.0})
