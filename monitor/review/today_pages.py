"""The page of one day or shift: parts by verdict, labels of the rejects, scores against the threshold.

It knows nothing of how a threshold is changed: `recalibration_pages` does that.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from flask import Flask, abort, render_template, request

from monitor import paths
from monitor.model.in_force import find_judging
from monitor.model.recipe_json import REFERENCE, Calibration, RecipeError
from monitor.model.version_summary import read_document
from monitor.review.filters import RECIPE, BadFilter, Filters
from monitor.review.histogram import plot
from monitor.review.line_view import LineView
from monitor.review.shift_figures import RecentFigures
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_index import SnapshotIndex
from monitor.settings import Settings
from monitor.snapshots.labels import Label


class TodayPages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        index: SnapshotIndex,
        view: LineView,
        plant: PlantClock,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._recipes, self._index, self._view = paths.recipes(settings), index, view
        self._plant, self._utc_ns = plant, utc_ns
        self._figures = RecentFigures(paths.journal(settings), settings.camera)
        app.add_url_rule("/today", "today", self._today)

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
