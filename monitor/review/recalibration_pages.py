"""The page on which a person sees the effect of another threshold, and accepts or discards it.

It knows nothing of how a threshold is calculated: `recalibration` does it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.accounts.permissions import Permission
from monitor.audit.entry import Kind
from monitor.model.recipe_json import FILE
from monitor.review.filters import LABELLED, RECIPE, UNLABELLED, Filters
from monitor.review.histogram import Plot, plot
from monitor.review.recalibration import (
    MAX_PARTS_PER_LABEL,
    Proposal,
    Recalibration,
    RecalibrationError,
    State,
)
from monitor.review.recorded_changes import RecordedChanges
from monitor.review.signature_form import SignatureForm
from monitor.review.snapshot_files import Key
from monitor.review.snapshot_index import SnapshotIndex
from monitor.snapshots.labels import Label
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
