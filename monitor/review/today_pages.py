"""What a day came to: counts, overkill by what people have said, scores against the threshold; and the way
from labelled overkills to another threshold."""

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

from monitor.model.recipe_document import FILE, REFERENCE, Calibration, Document
from monitor.review.filters import ANY, NOBODY, Filters
from monitor.review.histogram import plot
from monitor.review.labels import Label
from monitor.review.line_view import LineView
from monitor.review.recalibration import MOST_OF_A_LABEL, Recalibration, RecalibrationError, State
from monitor.review.snapshot_files import Key
from monitor.review.snapshot_index import Index, today
from monitor.snapshots.folder_scan import CAMERA, DAY


class TodayPages:
    """Hangs its addresses into the application."""

    def __init__(
        self,
        app: Flask,
        recipes: Path,
        index: Index,
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
            abort(HTTPStatus.BAD_REQUEST, "day: not a day.")
        entries = list(self._index.matching(Filters(day=day, verdict="reject")))
        is_today = day == today(self._utc_ns())
        by_camera: dict[str, Counter[str]] = {}
        by_recipe: dict[str, dict[str, list[float]]] = {}
        for entry in entries:
            about = self._index.about(entry)
            kind = about.label.value if about.label else "unlabelled"
            by_camera.setdefault(entry.key.camera, Counter())[kind] += 1
            by_recipe.setdefault(about.recipe, {}).setdefault(kind, []).append(entry.key.score)
        status = self._view.status()
        judging = {camera.name: camera.recipe for camera in status.cameras}
        wanted = {*by_recipe, *judging.values()}
        return render_template(
            "today.html",
            day=day,
            days=self._index.days(),
            by_camera=dict(sorted(by_camera.items())),
            labels=Label,
            status=status,
            recipes=[
                self._of_recipe(
                    name,
                    by_recipe.get(name, {}),
                    [camera for camera, judge in judging.items() if judge == name] if is_today else [],
                )
                for name in sorted(wanted - {""})
            ],
            unread=self._index.unread,
        )

    def _of_recipe(
        self, name: str, rejected: dict[str, list[float]], cameras: Sequence[str]
    ) -> dict[str, object]:
        """What the page shows of one recipe; `cameras` are those whose last passed parts count as its own."""
        calibration = self._calibration(name)
        passed = [score for camera in cameras for score in self._view.passed_scores(camera)]
        kinds = (*Label, "unlabelled")
        rows: dict[str, dict[str, Sequence[float]]] = {
            "Good images at calibration, and parts that passed lately": {
                "calibration": calibration.scores if calibration else (),
                "passed": passed,
            },
            "Rejected that day, by label": {str(kind): rejected.get(kind, []) for kind in kinds},
        }
        limits = {f"threshold {calibration.threshold:.4g}": calibration.threshold} if calibration else {}
        said = sum(len(rejected.get(label, [])) for label in Label)
        return {
            "name": name,
            "plot": plot(rows, limits),
            "overkills": len(rejected.get(Label.OVERKILL, [])),
            "labelled": said,
            "rejected": sum(map(len, rejected.values())),
            "all_overkills": self._index.count(Filters(recipe=name, label=Label.OVERKILL, verdict="all")),
        }

    def _calibration(self, name: str) -> Calibration | None:
        """None where the recipe is no more, or damaged: the scorer and `check` say so."""
        if not CAMERA.fullmatch(name):
            return None
        try:
            document = msgspec.json.decode((self._recipes / name / FILE).read_bytes(), type=Document)
        except (OSError, msgspec.DecodeError):
            return None
        return document.calibration.get(REFERENCE)

    def _labelled(self, recipe: str) -> list[tuple[Key, Label]]:
        """The newest parts of each label."""
        taken: Counter[Label] = Counter()
        found = []
        for entry in self._index.matching(Filters(recipe=recipe, label=ANY, verdict="all")):
            label = self._index.about(entry, fresh=True).label
            if label is not None and taken[label] < MOST_OF_A_LABEL:
                taken[label] += 1
                found.append((entry.key, label))
        return found

    def _show(self, recipe: str) -> str:
        self._check(recipe)
        job = self._recalibration.job
        if job is not None and job.recipe != recipe:
            other, job = job.recipe if job.state is State.WORKING else "", None
        else:
            other = ""
        is_old = job is not None and job.labelled != frozenset(self._labelled(recipe))
        waiting = self._index.count(Filters(recipe=recipe, label=NOBODY))
        picture = None
        if job is not None and job.proposal is not None:
            proposal = job.proposal
            rows: dict[str, dict[str, Sequence[float]]] = {
                "Good images at calibration": {"calibration": proposal.before.scores},
                "Labelled parts, scored anew": {
                    label.value: [one.score for one in proposal.judged if one.label is label]
                    for label in Label
                },
            }
            limits = {
                f"now {proposal.before.threshold:.4g}": proposal.before.threshold,
                f"proposed {proposal.after.threshold:.4g}": proposal.after.threshold,
            }
            picture = plot(rows, limits)
        return render_template(
            "recalibrate.html",
            recipe=recipe,
            job=job,
            is_old=is_old,
            states=State,
            waiting=waiting,
            other=other,
            plot=picture,
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
                "recipe %s: threshold %.4g became %.4g, from overkills, accepted by %s",
                recipe,
                job.proposal.before.threshold,
                job.proposal.after.threshold,
                g.session.by or "somebody without a name",
            )
        return self._back(recipe)

    def _discard(self, recipe: str) -> AnyResponse:
        self._check(recipe)
        self._recalibration.discard()
        return redirect(url_for("today"), HTTPStatus.SEE_OTHER)

    def _back(self, recipe: str) -> AnyResponse:
        return redirect(url_for("recalibrate", recipe=recipe), HTTPStatus.SEE_OTHER)

    def _check(self, recipe: str) -> None:
        if not CAMERA.fullmatch(recipe) or not (self._recipes / recipe / FILE).is_file():
            abort(HTTPStatus.NOT_FOUND, "There is no such recipe.")
