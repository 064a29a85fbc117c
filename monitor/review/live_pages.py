"""The live pages: each camera's newest picture, a few times a second for those who look, and its status."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import cv2
from flask import Flask, Response, abort, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from drivers.image_file import Image
from monitor.errors import LineMonitorError
from monitor.images.overlay import panel
from monitor.line_state.frame import Frame
from monitor.review.line_view import LineView
from monitor.review.scorers import Scorers
from monitor.settings import Settings

SAME_FOR_S = 0.2
"""However many look, a camera's picture is made five times a second at most; with a heatmap twice."""
SAME_FOR_HEATED_S = 0.5


@dataclass(frozen=True, slots=True)
class _Made:
    at: float
    content: bytes


class LivePages:
    """Hangs its addresses into the application."""

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
        self._made: dict[tuple[str, bool], _Made] = {}
        self._making = {name: threading.Lock() for name in self._cameras}
        app.add_url_rule("/live", "live", self._live)
        app.add_url_rule("/live/status", "live_status", self._status)
        app.add_url_rule("/live/<camera>.jpg", "live_picture", self._picture)

    def _live(self) -> str:
        return render_template("live.html", status=self._view.status())

    def _status(self) -> str:
        return render_template("status.html", status=self._view.status())

    def _picture(self, camera: str) -> AnyResponse:
        if camera not in self._cameras:
            abort(HTTPStatus.NOT_FOUND, "There is no such camera.")
        heated = request.args.get("heat") == "1"
        # Who comes while a picture is made gets that one.
        with self._making[camera]:
            made = self._made.get((camera, heated))
            same_for = SAME_FOR_HEATED_S if heated else SAME_FOR_S
            if made is None or self._clock() - made.at > same_for:
                made = _Made(self._clock(), self._make(camera, heated))
                self._made[camera, heated] = made
        return Response(made.content, mimetype="image/jpeg")

    def _make(self, camera: str, heated: bool) -> bytes:
        found = self._view.newest(camera)
        if found is None:
            abort(HTTPStatus.NOT_FOUND, "There is no picture of this camera at the moment.")
        shown = self._heated(camera, found) if heated else panel(found[1])
        return cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()

    def _heated(self, camera: str, found: tuple[Frame, Image]) -> Image:
        image = found[1]
        try:
            with self._scorers.of(self._view.recipe(self._cameras[camera])) as scorer:
                result = scorer.score([image])[0]
                return panel(image, result.anomaly_map, scorer.threshold)
        except LineMonitorError as error:
            abort(HTTPStatus.CONFLICT, f"No heatmap: {error}")
