"""The page of one day (rejects, labels, scores against the threshold) and the recalibration page.

It knows nothing of how a threshold is calculated: `recalibration` does it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor import paths
from monitor.accounts.permissions import Permission
from monitor.audit.entry import Kind
from monitor.model.in_force import find_judging
from monitor.model.recipe_json import FILE, REFERENCE, Calibration, RecipeError
from monitor.model.version_summary import read_document
from monitor.review.filters import LABELLED, RECIPE, UNLABELLED, BadFilter, Filters
from monitor.review.histogram import Plot, plot
from monitor.review.line_view import LineView
from monitor.review.recalibration import (
    MAX_PARTS_PER_LABEL,
    Proposal,
    Recalibration,
    RecalibrationError,
    State,
)
from monitor.review.recorded_changes import RecordedChanges
from monitor.review.shift_figures import RecentFigures
from monitor.review.shifts import PlantClock
from monitor.review.signature import SignatureForm
from monitor.review.snapshot_files import Key
from monitor.review.snapshot_index import SnapshotIndex
from monitor.settings import Settings
from monitor.snapshots.labels import Label
from monitor.verdict import rfc3339

_MEANING = "new threshold accepted"
"""What a signature on the recalibration page states."""


class TodayPages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        index: SnapshotIndex,
        view: LineView,
        recalibration: Recalibration,
        plant: PlantClock,
        signatures: SignatureForm,
        changes: RecordedChanges,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._recipes, self._index, self._view = paths.recipes(settings), index, view
        self._recalibration, self._plant, self._utc_ns = recalibration, plant, utc_ns
        self._figures = RecentFigures(paths.journal(settings))
        self._signatures, self._changes = signatures, changes
        self._log = logging.getLogger(__name__)
        app.add_url_rule("/today", "today", self._today)
        app.add_url_rule("/recalibrate/<recipe>", "recalibrate", self._show)
        app.add_url_rule("/recalibrate/<recipe>/start", "recalibrate_start", self._start, methods=["POST"])
        app.add_url_rule("/recalibrate/<recipe>/accept", "recalibrate_accept", self._accept, methods=["POST"])
        app.add_url_rule(
            "/recalibrate/<recipe>/discard", "recalibrate_discard", self._discard, methods=["POST"]
        )

    def _today(self) -> str:
        filters = self._chosen()
        entries = list(self._index.matching(filters))
        is_today = filters.day == self._plant.day(self._utc())
        by_camera: dict[str, Counter[str]] = {}
        by_recipe: dict[str, dict[str, list[float]]] = {}
        for entry in entries:
            details = self._index.details(entry)
            kind = details.label.value if details.label else "unlabelled"
            by_camera.setdefault(entry.key.camera, Counter())[kind] += 1
            by_recipe.setdefault(details.recipe, {}).setdefault(kind, []).append(entry.key.score)
        status = self._view.status()
        in_force = {camera.name: camera.recipe for camera in status.cameras}
        recipes = {*by_recipe, *in_force.values()}
        return render_template(
            "day.html" if request.args.get("only") == "day" else "today.html",
            filters=filters,
            days=self._index.days(self._plant),
            figures=self._figures.read(filters.period) if filters.period else None,
            views=frozenset(camera.name for camera in status.cameras if camera.is_view),
            by_camera=dict(sorted(by_camera.items())),
            labels=Label,
            status=status,
            recipes=[
                self._recipe_values(
                    name,
                    by_recipe.get(name, {}),
                    [camera for camera, recipe in in_force.items() if recipe == name] if is_today else [],
                )
                for name in sorted(recipes - {""})
            ],
            unread=self._index.unread,
        )

    def _chosen(self) -> Filters:
        """The day and shift in the address; today without one."""
        query = {"day": self._plant.day(self._utc()), **request.args.to_dict()}
        wanted = {name: query[name] for name in ("day", "shift") if query.get(name)}
        try:
            return Filters.parse(wanted, self._plant)
        except BadFilter as error:
            abort(HTTPStatus.BAD_REQUEST, f"{error}.")

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self._utc_ns() / 1e9, UTC)

    def _recipe_values(
        self, name: str, rejected: dict[str, list[float]], cameras: Sequence[str]
    ) -> dict[str, object]:
        """The template's values for one recipe.

        `rejected` holds scores by label; `cameras` are those whose newest passed parts it judged.
        """
        calibration = self._calibration(name, cameras)
        passed = [score for camera in cameras for score in self._view.passed_scores(camera)]
        kinds = (*Label, "unlabelled")
        rows: dict[str, dict[str, Sequence[float]]] = {
            "Good images at calibration, and the newest passed parts": {
                "calibration": calibration.scores if calibration else (),
                "passed": passed,
            },
            "Rejected that day, by label": {str(kind): rejected.get(kind, []) for kind in kinds},
        }
        limits = {f"threshold {calibration.threshold:.4g}": calibration.threshold} if calibration else {}
        labelled = sum(len(rejected.get(label, [])) for label in Label)
        return {
            "name": name,
            "plot": plot(rows, limits),
            "overkills": len(rejected.get(Label.OVERKILL, [])),
            "labelled": labelled,
            "rejected": sum(map(len, rejected.values())),
            "all_overkills": self._index.count(Filters(recipe=name, label=Label.OVERKILL, verdict="all")),
        }

    def _calibration(self, name: str, cameras: Sequence[str]) -> Calibration | None:
        """That of the version which judges these cameras' parts; where no line runs, of the version in force.

        None where the recipe is missing or damaged: the scoring worker and `check` report it.
        """
        if not RECIPE.fullmatch(name):
            return None
        shas = [self._view.judging_sha(camera) for camera in cameras]
        try:
            version = find_judging(self._recipes / name, next(iter(filter(None, shas)), ""))
            return read_document(version).calibration.get(REFERENCE)
        except RecipeError:
            return None

    def _labelled(self, recipe: str) -> list[tuple[Key, Label]]:
        """The newest parts of each label, at most `MAX_PARTS_PER_LABEL` of each."""
        taken: Counter[Label] = Counter()
        found = []
        for entry in self._index.matching(Filters(recipe=recipe, label=LABELLED, verdict="all")):
            label = self._index.details(entry, fresh=True).label
            if label is not None and taken[label] < MAX_PARTS_PER_LABEL:
                taken[label] += 1
                found.append((entry.key, label))
        return found

    def _show(self, recipe: str) -> str:
        self._check(recipe)
        job, running_recipe = self._recalibration.job, ""
        if job is not None and job.recipe != recipe:
            running_recipe = job.recipe if job.state is State.WORKING else ""
            job = None
        is_outdated = job is not None and job.labelled != frozenset(self._labelled(recipe))
        return render_template(
            "recalibrate.html",
            recipe=recipe,
            job=job,
            is_outdated=is_outdated,
            states=State,
            unlabelled=self._index.count(Filters(recipe=recipe, label=UNLABELLED)),
            running_recipe=running_recipe,
            plot=_proposal_plot(job.proposal) if job is not None and job.proposal is not None else None,
            labels=Label,
            signing=self._signatures.template_values(Permission.CALIBRATE),
            meaning=_MEANING,
        )

    def _start(self, recipe: str) -> AnyResponse:
        self._check(recipe)
        try:
            self._recalibration.start(recipe, self._labelled(recipe))
        except RecalibrationError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        return self._back(recipe)

    def _accept(self, recipe: str) -> AnyResponse:
        self._check(recipe)
        id_, labelled = request.form.get("job", ""), self._labelled(recipe)
        try:
            proposal = self._recalibration.find_proposal(id_, labelled)
            signature = self._signatures.take(Permission.CALIBRATE, _MEANING, proposal.warnings)
            before, after = proposal.before.threshold, proposal.after.threshold
            with self._changes.recording(
                Kind.THRESHOLD, f"recipe.{recipe}.threshold", repr(before), repr(after), signature=signature
            ):
                self._recalibration.accept(id_, labelled, signature.name, rfc3339(self._utc_ns()))
        except RecalibrationError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        self._log.warning(
            "recipe %s: a version with threshold %.4g, not %.4g, was accepted by %s; it is not in force",
            recipe,
            after,
            before,
            signature.name,
        )
        return self._back(recipe)

    def _discard(self, recipe: str) -> AnyResponse:
        self._check(recipe)
        self._recalibration.discard()
        return redirect(url_for("today"), HTTPStatus.SEE_OTHER)

    def _back(self, recipe: str) -> AnyResponse:
        return redirect(url_for("recalibrate", recipe=recipe), HTTPStatus.SEE_OTHER)

    def _check(self, recipe: str) -> None:
        if not RECIPE.fullmatch(recipe) or not (self._recipes / recipe / FILE).is_file():
            abort(HTTPStatus.NOT_FOUND, "There is no such recipe.")


def _proposal_plot(proposal: Proposal) -> Plot | None:
    rows: dict[str, dict[str, Sequence[float]]] = {
        "Good images at calibration": {"calibration": proposal.before.scores},
        "Labelled parts, scored with this recipe": {
            label.value: [part.score for part in proposal.parts if part.label is label] for label in Label
        },
    }
    limits = {
        f"now {proposal.before.threshold:.4g}": proposal.before.threshold,
        f"proposed {proposal.after.threshold:.4g}": proposal.after.threshold,
    }
    return plot(rows, limits)
