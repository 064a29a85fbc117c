"""The live page: the newest picture of each camera, up to five times a second, and the line's status.

It knows nothing of rings or of the board: `line_view` reads them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from flask import Flask, Response, abort, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.images.overlay import draw_panel
from monitor.review.gate_outcomes import explain_outcome
from monitor.review.line_view import LineView
from monitor.review.pictures import encode_jpeg
from monitor.review.scorers import Scorers
from monitor.review.uninspected_reasons import explain_reason
from monitor.settings import Settings

PICTURE_AGE_S = 0.2
"""A picture is sent again until it is this old: however many browsers ask, a camera's picture is made at most
five times a second."""
HEATMAP_AGE_S = 0.5
"""The same for a picture with a heatmap: at most twice a second."""


@dataclass(frozen=True, slots=True)
class _CachedPicture:
    made_at: float
    content: bytes


class LivePages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        view: LineView,
        scorers: Scorers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view, self._scorers, self._clock = view, scorers, clock
        self._cameras = {camera.name: camera for camera in settings.camera}
        self._pictures: dict[tuple[str, bool], _CachedPicture] = {}
        self._making = {name: threading.Lock() for name in self._cameras}
        app.jinja_env.globals.update(explain_reason=explain_reason, explain_outcome=explain_outcome)
        app.add_url_rule("/live", "live", self._live)
        app.add_url_rule("/live/status", "live_status", self._status)
        app.add_url_rule("/live/<camera>.jpg", "live_picture", self._picture)

    def _live(self) -> str:
        return render_template("live.html", status=self._view.status())

    def _status(self) -> str:
        return render_template("live_status.html", status=self._view.status())

    def _picture(self, camera: str) -> AnyResponse:
        if camera not in self._cameras:
            abort(HTTPStatus.NOT_FOUND, "There is no such camera.")
        with_heatmap = request.args.get("heat") == "1"
        # A request that waits here gets the picture that another request is making.
        with self._making[camera]:
            picture = self._pictures.get((camera, with_heatmap))
            max_age_s = HEATMAP_AGE_S if with_heatmap else PICTURE_AGE_S
            if picture is None or self._clock() - picture.made_at > max_age_s:
                picture = _CachedPicture(self._clock(), self._make(camera, with_heatmap))
                self._pictures[camera, with_heatmap] = picture
        return Response(picture.content, mimetype="image/jpeg")

    def _make(self, camera: str, with_heatmap: bool) -> bytes:
        newest = self._view.newest_frame(camera)
        if newest is None:
            abort(HTTPStatus.NOT_FOUND, "There is no image of this camera at the moment.")
        _, image = newest
        return encode_jpeg(self._heatmap(camera, image) if with_heatmap else draw_panel(image), 80)

    def _heatmap(self, camera: str, image: Image) -> Image:
        recipe = self._view.recipe_name(self._cameras[camera])
        try:
            with self._scorers.scorer(recipe, self._view.judging_sha(camera)) as scorer:
                result = scorer.score([image])[0]
                return draw_panel(image, result.anomaly_map, scorer.threshold)
        except LineMonitorError as error:
            abort(HTTPStatus.CONFLICT, f"No heatmap: {error}")
