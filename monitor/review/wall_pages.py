"""The pages of snapshots: the wall, one part with its label form, the pictures, and the help page.

It knows nothing of the folder's contents: `snapshot_index` finds the snapshots.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.audit.entry import Kind
from monitor.review.filters import VERDICTS, BadFilter, Filters, PageStart
from monitor.review.pictures import Pictures
from monitor.review.recorded_changes import RecordedChanges
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles, find_key
from monitor.review.snapshot_index import SnapshotIndex
from monitor.snapshots.labels import Label, LabelEntry
from monitor.verdict import rfc3339

PER_PAGE = 48
_UNCHANGING = "private, max-age=86400, immutable"
"""Cache-Control of a snapshot's pictures: they never change."""


class WallPages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        files: SnapshotFiles,
        index: SnapshotIndex,
        pictures: Pictures,
        plant: PlantClock,
        changes: RecordedChanges,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._files, self._index, self._pictures, self._utc_ns = files, index, pictures, utc_ns
        self._plant, self._changes = plant, changes
        app.jinja_env.globals.update(snapshot_url=snapshot_url, find_key=find_key)
        part = "/part/<day>/<camera>/<stem>"
        app.add_url_rule("/", "wall", self._wall)
        app.add_url_rule(part, "part", self._part)
        app.add_url_rule(f"{part}/label", "label", self._label, methods=["POST"])
        app.add_url_rule(f"{part}/<any(thumbnail, frame, heatmap):which>.jpg", "picture", self._picture)
        app.add_url_rule(f"{part}/original.png", "original", self._original)
        app.add_url_rule("/help", "help", self._help)

    def _wall(self) -> str:
        filters, start = self._filters(), _page_start()
        page = self._index.page(filters, PER_PAGE, start)
        if start is not None and not page.entries:
            page = self._index.page(filters, PER_PAGE)
        # The `.json` files are read again, so that the page shows the newest labels.
        shown = [(entry.key, self._index.details(entry, fresh=True)) for entry in page.entries]
        return render_template(
            "new_cards.html" if request.args.get("only") == "cards" else "wall.html",
            shown=shown,
            page=page,
            filters=filters,
            count=self._index.count(filters),
            total=self._index.total(),
            complete=self._index.complete and page.complete,
            unread=self._index.unread,
            days=self._index.days(self._plant),
            cameras=self._index.cameras(),
            recipes=self._index.recipes(),
            labels=Label,
            verdicts=VERDICTS,
            is_newest=start is None or page.is_first,
        )

    def _part(self, day: str, camera: str, stem: str) -> str:
        key, filters = _key(day, camera, stem), self._filters()
        entry = self._index.find(key)
        details = self._index.details(entry, fresh=True)
        if not any(self._has_file(key, suffix) for suffix in (".jpg", ".png", ".json")):
            abort(HTTPStatus.NOT_FOUND, "This image was deleted.")
        newer, older = self._index.neighbours(filters, key)
        return render_template(
            "part.html",
            key=key,
            details=details,
            newer=newer,
            older=older,
            filters=filters,
            labels=Label,
            has_frame=self._has_file(key, ".png"),
        )

    def _filters(self) -> Filters:
        try:
            return Filters.parse(request.args, self._plant)
        except BadFilter as error:
            abort(HTTPStatus.BAD_REQUEST, f"{error}.")

    def _has_file(self, key: Key, suffix: str) -> bool:
        return (self._files.root / f"{key.path}{suffix}").is_file()

    def _label(self, day: str, camera: str, stem: str) -> AnyResponse:
        key, filters, word = _key(day, camera, stem), self._filters(), request.form.get("label", "")
        if word not in (*Label, ""):
            abort(HTTPStatus.BAD_REQUEST, "A label is defect, overkill or unsure.")
        label_entry = LabelEntry(Label(word), g.session.by, rfc3339(self._utc_ns())) if word else None
        if not any(self._has_file(key, suffix) for suffix in (".jpg", ".png")):
            abort(HTTPStatus.NOT_FOUND, "This image was deleted.")
        known = self._index.details(self._index.find(key), fresh=True)
        before = known.label
        if known.challenge:
            abort(HTTPStatus.CONFLICT, "A challenge part gets no label: what it is was verified before.")
        try:
            with self._changes.recording(Kind.LABEL, f"snapshots/{key.path}", before, word or None):
                self._files.label(key, label_entry)
        except NoSuchSnapshot:
            abort(HTTPStatus.NOT_FOUND, "This image was deleted.")
        except ValueError:
            abort(HTTPStatus.CONFLICT, "This image's .json file is damaged, so it can't be labelled.")
        except OSError as error:
            abort(HTTPStatus.SERVICE_UNAVAILABLE, f"The label can't be saved: {error.strerror}.")
        details = self._index.details(self._index.find(key), fresh=True)
        if request.form.get("from") == "wall":
            if "text/html" not in request.headers.get("Accept", ""):
                return Response(
                    render_template("card.html", key=key, details=details, filters=filters, labels=Label)
                )
            wall = f"{url_for('wall')}?{urlencode(filters.query())}#{key.stem}"
            return redirect(wall, HTTPStatus.SEE_OTHER)
        return redirect(snapshot_url("part", key, filters), HTTPStatus.SEE_OTHER)

    def _picture(self, day: str, camera: str, stem: str, which: str) -> AnyResponse:
        make = {
            "thumbnail": self._pictures.thumbnail,
            "frame": self._pictures.frame,
            "heatmap": self._pictures.heatmap,
        }[which]
        return self._picture_response(make, _key(day, camera, stem), "image/jpeg")

    def _original(self, day: str, camera: str, stem: str) -> AnyResponse:
        return self._picture_response(self._pictures.original, _key(day, camera, stem), "image/png")

    def _picture_response(self, make: Callable[[Key], bytes], key: Key, kind: str) -> AnyResponse:
        try:
            content = make(key)
        except NoSuchSnapshot:
            abort(HTTPStatus.NOT_FOUND, "This image was deleted.")
        response = Response(content, mimetype=kind)
        response.headers["Cache-Control"] = _UNCHANGING
        return response

    def _help(self) -> str:
        return render_template("help.html", labels=Label)


def snapshot_url(endpoint: str, key: Key, filters: Filters | None = None, **more: str) -> str:
    """The address of a snapshot's page or picture, with the filters in the query.

    The query is appended by hand, because `camera` is also a part of the path.
    """
    path = url_for(endpoint, day=key.day, camera=key.camera, stem=key.stem, **more)  # type: ignore[arg-type]
    query = urlencode(filters.query()) if filters else ""
    return f"{path}?{query}" if query else path


def _key(day: str, camera: str, stem: str) -> Key:
    try:
        return Key.parse(day, camera, stem)
    except NoSuchSnapshot:
        abort(HTTPStatus.NOT_FOUND, "There is no such image.")


def _page_start() -> PageStart | None:
    try:
        return PageStart.parse(request.args)
    except BadFilter as error:
        abort(HTTPStatus.BAD_REQUEST, f"{error}.")
