"""The reports on the page: of a recipe's version, and of a shift. It knows nothing of what they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, abort, request

from monitor.errors import LineMonitorError
from monitor.review.filters import BadFilter, Filters
from monitor.review.printed_page import security_policy
from monitor.review.recipe_report import RecipeReports
from monitor.review.shift_report import ShiftReports
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_index import SnapshotIndex
from monitor.settings import Settings


class ReportPages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        index: SnapshotIndex,
        plant: PlantClock,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._plant, self._utc_ns = plant, utc_ns
        self._recipes = RecipeReports(settings, index, plant)
        self._shifts = ShiftReports(settings, index, plant)
        app.add_url_rule("/report/recipe/<recipe>", "recipe_report", self._recipe)
        app.add_url_rule("/report/shift/<day>", "shift_report", self._shift)

    def _recipe(self, recipe: str) -> Response:
        try:
            return _answer(self._recipes.make(recipe, self._utc_ns()))
        except LineMonitorError as error:
            abort(HTTPStatus.NOT_FOUND, f"There is no report: {error}.")

    def _shift(self, day: str) -> Response:
        query = {"day": day, "shift": request.args.get("shift", "")}
        try:
            filters = Filters.parse(query, self._plant)
        except BadFilter as error:
            abort(HTTPStatus.BAD_REQUEST, f"{error}.")
        return _answer(self._shifts.make(filters, self._utc_ns()))


def _answer(page: str) -> Response:
    response = Response(page, mimetype="text/html")
    response.headers["Content-Security-Policy"] = security_policy()
    return response
