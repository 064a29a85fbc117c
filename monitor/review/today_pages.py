"""The page of one day (rejects, labels, scores against the threshold) and the recalibration page.

It knows nothing of how a threshold is calculated: `recalibration` does it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path

import msgspec
from flask import Flask, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.model.recipe_json import FILE, REFERENCE, Calibration, Document
from monitor.review.filters import LABELLED, RECIPE, UNLABELLED, Filters
from monitor.review.histogram import Plot, plot
from monitor.review.line_view import LineView
from monitor.review.recalibration import (
    MAX_PARTS_PER_LABEL,
    Proposal,
    Recalibration,
    RecalibrationError,
    State,
)
from monitor.review.snapshot_files import Key
from monitor.review.snapshot_index import SnapshotIndex, today
from monitor.snapshots.folder_scan import DAY
from monitor.snapshots.labels import Label


class TodayPages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        recipes: Path,
        index: SnapshotIndex,
        view: LineView,
        recalibration: Recalibration,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._recipes, self._index, self._view = recipes, index, view
        self._recalibration, self._utc_ns = recalibration, utc_ns
        self._log = logging.getLogger(__name__)
        app.add_url_rule("/today", "today", self._today)
        app.add_url_rule("/recalibrate/<recipe>", "recalibrate", self._show)
        app.add_url_rule("/recalibrate/<recipe>/start", "recalibrate_start", self._start, methods=["POST"])
        app.add_url_rule("/recalibrate/<recipe>/accept", "recalibrate_accept", self._accept, methods=["POST"])
        app.add_url_rule(
            "/recalibrate/<recipe>/discard", "recalibrate_discard", self._discard, methods=["POST"]
        )

    def _today(self) -> str:
        day = request.args.get("day") or today(self._utc_ns())
        if not DAY.fullmatch(day):
            abort(HTTPStatus.BAD_REQUEST, "day: not a day as YYYY-MM-DD.")
        entries = list(self._index.matching(Filters(day=day, verdict="reject")))
        is_today = day == today(self._utc_ns())
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
            "today.html",
            day=day,
            days=self._index.days(),
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

    def _recipe_values(
        self, name: str, rejected: dict[str, list[float]], cameras: Sequence[str]
    ) -> dict[str, object]:
        """The template's values for one recipe.

        `rejected` holds scores by label; `cameras` are those whose newest passed parts it judged.
        """
        calibration = self._calibration(name)
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

    def _calibration(self, name: str) -> Calibration | None:
        """None where the recipe is missing or damaged: the scoring worker and `check` report it."""
        if not RECIPE.fullmatch(name):
            return None
        try:
            document = msgspec.json.decode((self._recipes / name / FILE).read_bytes(), type=Document)
        except (OSError, msgspec.DecodeError):
            return None
        return document.calibration.get(REFERENCE)

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
        try:
            job = self._recalibration.accept(request.form.get("job", ""), self._labelled(recipe))
        except RecalibrationError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        if job.proposal is not None:
            self._log.warning(
                "recipe %s: threshold changed from %.4g to %.4g, from labelled overkills, accepted by %s",
                recipe,
                job.proposal.before.threshold,
                job.proposal.after.threshold,
                g.session.by or "a person without a name",
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
