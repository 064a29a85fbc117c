"""The pages of recipes: their versions with lineage, two versions side by side, put in force, go back.

It knows nothing of how a version is put in force (`version_changes`) or compared (`comparison_job`).
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor import paths
from monitor.audit.trail import AuditError
from monitor.errors import LineMonitorError
from monitor.model.in_force import find_step_back, read_in_force
from monitor.model.recipe_json import REFERENCE, DefectSource, RecipeError
from monitor.model.version_files import VersionFile, find_version
from monitor.model.version_summary import VersionSummary, list_recipes, summarise
from monitor.review.comparison_job import ComparisonError, ComparisonJob, ComparisonJobs, ComparisonState
from monitor.review.filters import RECIPE, Filters
from monitor.review.histogram import Plot, plot
from monitor.review.judged_cameras import VersionUse, find_use
from monitor.review.line_view import LineView
from monitor.review.recorded_changes import describe_way, refuse_unrecorded
from monitor.review.signature_form import SignatureForm
from monitor.review.snapshot_files import Key, find_key
from monitor.review.snapshot_index import SnapshotIndex
from monitor.review.version_changes import VersionChanges
from monitor.review.version_notices import find_notices
from monitor.review.version_trial import MOST_SCORED, Trial, TrialState, VersionTrials
from monitor.review.version_warnings import warn_of_version
from monitor.settings import Settings
from monitor.snapshots.labels import Label
from monitor.training.operating_points import count_labelled, own_point, statement
from monitor.verdict import Verdict

_MOST_PARTS = 60
"""The most parts whose verdict would change that the page shows."""
_TRIAL_S = 5.0
"""The longest that a signature waits for the trial of its version. The page asks for it only afterwards."""


class RecipePages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        view: LineView,
        changes: VersionChanges,
        jobs: ComparisonJobs,
        trials: VersionTrials,
        index: SnapshotIndex,
        signatures: SignatureForm,
    ) -> None:
        self._settings, self._view, self._changes = settings, view, changes
        self._jobs, self._trials, self._index = jobs, trials, index
        self._signatures, self._recipes = signatures, paths.recipes(settings)
        app.jinja_env.globals["version_notices"] = lambda: find_notices(self._recipes, settings, view)
        version = "/recipes/<recipe>/<int:number>"
        app.add_url_rule("/recipes", "recipes", self._list)
        app.add_url_rule(version, "version", self._version)
        app.add_url_rule(f"{version}/use", "version_use", self._use, methods=["POST"])
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
        judges = self._view.judges(camera.name for camera in self._settings.camera)
        return [(camera, judge.version) for camera, judge in judges.items() if judge.recipe == recipe]

    def _version(self, recipe: str, number: int) -> str:
        summary, present = self._find(recipe, number)
        back, document = request.args.get("back") == "1", summary.document
        can_be_signed = document is not None and not (summary.is_in_force and summary.is_signed)
        trial = self._trials.find(summary.version, self._labelled_defects(recipe)) if can_be_signed else None
        if document is not None and trial is not None and trial.state is TrialState.DONE:
            document = count_labelled(document, trial.defect_scores)
        own = own_point(document) if document and REFERENCE in document.calibration else None
        return render_template(
            "version.html",
            recipe=recipe,
            summary=summary,
            document=document,
            use=self._find_use(summary),
            present=present,
            calibration=document.calibration.get(REFERENCE) if document else None,
            statement=statement(document, with_commands=False) if document and own else "",
            has_known_defects=own is not None and own.source is DefectSource.KNOWN,
            camera=next((one.name for one in self._settings.camera if one.recipe == recipe), None),
            trial=trial,
            trial_states=TrialState,
            warnings=warn_of_version(present, summary, trial.defect_scores if trial else ()),
            meaning=self._changes.find_meaning(recipe, number, back=back),
            back=back,
            signing=self._signatures.template_values(self._changes.find_permission(recipe, number)),
        )

    def _labelled_defects(self, recipe: str) -> list[Key]:
        """The newest parts of the recipe that are labelled as real defects now."""
        found: list[Key] = []
        for entry in self._index.matching(Filters(recipe=recipe, label=Label.DEFECT, verdict="all")):
            if len(found) == MOST_SCORED:
                break
            if self._index.details(entry, fresh=True).label is Label.DEFECT:
                found.append(entry.key)
        return found

    def _await_trial(self, summary: VersionSummary) -> Trial:
        """The trial of the version that is signed for. Ends the request where the line could not use the
        version, or while that is not known."""
        name, recipe = summary.version.name, summary.version.folder.name
        trial = self._trials.find(summary.version, self._labelled_defects(recipe))
        trial.ended.wait(_TRIAL_S)
        if trial.state is TrialState.DONE:
            # It may have begun before the newest label was given.
            trial = self._trials.find(summary.version, self._labelled_defects(recipe))
        if trial.state is TrialState.FAILED:
            abort(HTTPStatus.CONFLICT, f"Nothing is put in force, {name} can't be used: {trial.error}.")
        if trial.state is TrialState.WORKING:
            why = f"{name} is still being checked. Look at its page, and sign again when that has ended."
            abort(HTTPStatus.CONFLICT, f"Nothing is put in force: {why}")
        return trial

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
            meaning = self._changes.find_meaning(recipe, number, back=back)
            warnings = warn_of_version(present, summary, self._await_trial(summary).defect_scores)
            signature = self._signatures.take(permission, meaning, warnings)
            if back:
                self._changes.roll_back(recipe, signature, permission, describe_way())
            else:
                self._changes.use(recipe, number, signature, permission, describe_way())
        except AuditError as error:
            refuse_unrecorded(error)
        except LineMonitorError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        return redirect(url_for("recipes"), HTTPStatus.SEE_OTHER)

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
        changed = [(image, find_key(image.file)) for image in (result.changed if result else [])]
        labels = {
            key: self._index.details(self._index.find(key), fresh=True).label for _, key in changed if key
        }
        return render_template(
            "version_comparison.html",
            recipe=recipe,
            job=job,
            states=ComparisonState,
            result=result,
            verdicts=Verdict,
            plot=_plot(job),
            changed=changed[:_MOST_PARTS],
            total=len(changed),
            labels=labels,
            defects=sum(label is Label.DEFECT for label in labels.values()),
            passing_defects=sum(
                key is not None and labels[key] is Label.DEFECT and image.verdicts[1] is Verdict.PASS
                for image, key in changed
            ),
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


def _plot(job: ComparisonJob) -> Plot | None:
    if job.result is None:
        return None
    scores = {
        job.result.one: [image.one for image in job.result.images],
        job.result.other: [image.other for image in job.result.images],
    }
    rows = {name: _split(own) for name, own in scores.items()}
    return plot(rows, {"threshold": 1.0})


def _split(scores: Sequence[float]) -> dict[str, Sequence[float]]:
    """Scores in thresholds by the kind of their bars: those that pass and those that are rejected."""
    return {
        "passed": [score for score in scores if score <= 1],
        "rejected": [score for score in scores if score > 1],
    }
