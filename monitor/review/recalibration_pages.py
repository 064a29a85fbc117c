"""The page on which a person sees the effect of another threshold, and accepts or discards it.

It knows nothing of how a threshold is calculated: `recalibration` does it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import islice
from pathlib import Path

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.accounts.permissions import Permission
from monitor.audit.entry import Kind
from monitor.errors import LineMonitorError
from monitor.model.in_force import find_asked, is_promoted
from monitor.model.recipe_json import FILE, RecipeError
from monitor.model.version_files import find_version
from monitor.model.version_summary import read_document
from monitor.review.filters import LABELLED, RECIPE, UNLABELLED, Filters
from monitor.review.histogram import Plot, plot
from monitor.review.recalibration import (
    MAX_PARTS_PER_LABEL,
    MAX_UNLABELLED,
    Job,
    Proposal,
    RateRequest,
    Recalibration,
    RecalibrationError,
    State,
)
from monitor.review.recorded_changes import RecordedChanges
from monitor.review.signature_form import SignatureForm
from monitor.review.snapshot_files import Key
from monitor.review.snapshot_index import SnapshotIndex
from monitor.snapshots.labels import Label
from monitor.training.operating_points import statement
from monitor.verdict import rfc3339

_MEANING = "new threshold accepted"
"""What the signature on the page states."""


class RecalibrationPages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        recipes: Path,
        index: SnapshotIndex,
        recalibration: Recalibration,
        signatures: SignatureForm,
        changes: RecordedChanges,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._recipes, self._index, self._recalibration = recipes, index, recalibration
        self._signatures, self._changes, self._utc_ns = signatures, changes, utc_ns
        self._log = logging.getLogger(__name__)
        page = "/recalibrate/<recipe>"
        app.add_url_rule(page, "recalibrate", self._show)
        app.add_url_rule(f"{page}/start", "recalibrate_start", self._start, methods=["POST"])
        app.add_url_rule(f"{page}/accept", "recalibrate_accept", self._accept, methods=["POST"])
        app.add_url_rule(f"{page}/discard", "recalibrate_discard", self._discard, methods=["POST"])

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
        if job is not None and self._is_promoted(job):
            # Its version has its own page now.
            self._recalibration.discard()
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
            statement=statement(job.proposal.draft.document, with_commands=False)
            if job is not None and job.proposal is not None
            else "",
            signing=self._signatures.template_values(Permission.CALIBRATE),
            meaning=_MEANING,
        )

    def _start(self, recipe: str) -> AnyResponse:
        self._check(recipe)
        asked = self._find_rate(recipe) if "overkill" in request.form else None
        unlabelled = Filters(recipe=recipe, label=UNLABELLED, verdict="all")
        keys = [entry.key for entry in islice(self._index.matching(unlabelled), MAX_UNLABELLED)]
        try:
            self._recalibration.start(recipe, self._labelled(recipe), asked, keys if asked else ())
        except RecalibrationError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        return self._back(recipe)

    def _find_rate(self, recipe: str) -> RateRequest:
        """The rate in the present form, which must be one of the version's table. Ends the request with one
        line where it is none."""
        number, rate = request.form.get("version", ""), request.form["overkill"]
        if not number.isdecimal() or len(number) > 9:
            abort(HTTPStatus.BAD_REQUEST, "Choose a row in the table of a version.")
        try:
            document = read_document(find_version(self._recipes / recipe, int(number)))
        except RecipeError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        for point in document.operating_points:
            if str(point.overkill) == rate:
                return RateRequest(int(number), point.overkill)
        abort(HTTPStatus.BAD_REQUEST, "Choose a rate from the table of the version.")

    def _is_promoted(self, job: Job) -> bool:
        """Whether a person has put the version in force that was made from the proposal."""
        if job.state is not State.ACCEPTED:
            return False
        try:
            return is_promoted(find_asked(self._recipes, job.made))
        except LineMonitorError:
            # The page Recipes names the reason.
            return False

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
        "Parts of the line, scored with this recipe": {
            kind: [part.score for part in proposal.parts if part.label is label]
            for label, kind in ((None, "unlabelled"), *((label, label.value) for label in Label))
        },
    }
    limits = {
        f"now {proposal.before.threshold:.4g}": proposal.before.threshold,
        f"proposed {proposal.after.threshold:.4g}": proposal.after.threshold,
    }
    return plot(rows, limits)
