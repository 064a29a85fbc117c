"""The wall of snapshots, one part large, its label, the help page. Thin: what is found stands in `index`."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.review.filters import VERDICTS, BadFilter, Filters, Place
from monitor.review.labels import Label, Said
from monitor.review.pictures import Pictures
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles
from monitor.review.snapshot_index import Index
from monitor.verdict import rfc3339

PER_PAGE = 48
_UNCHANGING = "private, max-age=86400, immutable"
"""A snapshot's pictures never change."""


class Pages:
    """Hangs its addresses into the application."""

    def __init__(
        self,
        app: Flask,
        files: SnapshotFiles,
        index: Index,
        pictures: Pictures,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._files, self._index, self._pictures, self._utc_ns = files, index, pictures, utc_ns
        app.jinja_env.globals["address"] = address
        part = "/part/<day>/<camera>/<stem>"
        app.add_url_rule("/", "wall", self._wall)
        app.add_url_rule(part, "part", self._part)
        app.add_url_rule(f"{part}/label", "label", self._label, methods=["POST"])
        app.add_url_rule(f"{part}/<any(thumbnail, frame, heatmap):which>.jpg", "picture", self._picture)
        app.add_url_rule(f"{part}/original.png", "original", self._original)
        app.add_url_rule("/help", "help", self._help)

    def _wall(self) -> str:
        filters, place = _filters(), _place()
        found = self._index.page(filters, PER_PAGE, place)
        if place is not None and not found.entries:
            found = self._index.page(filters, PER_PAGE)
        # Whatever is shown is what stands in the file now.
        shown = [(entry.key, self._index.about(entry, fresh=True)) for entry in found.entries]
        return render_template(
            "wall.html",
            shown=shown,
            found=found,
            filters=filters,
            count=self._index.count(filters),
            total=self._index.total(),
            complete=self._index.complete and found.complete,
            unread=self._index.unread,
            days=self._index.days(),
            cameras=self._index.cameras(),
            recipes=self._index.recipes(),
            labels=Label,
            verdicts=VERDICTS,
        )

    def _part(self, day: str, camera: str, stem: str) -> str:
        key, filters = _key(day, camera, stem), _filters()
        entry = self._index.find(key)
        about = self._index.about(entry, fresh=True)
        if not any(self._is_there(key, suffix) for suffix in (".jpg", ".png", ".json")):
            abort(HTTPStatus.NOT_FOUND, "This snapshot is no longer there.")
        newer, older = self._index.neighbours(filters, key)
        return render_template(
            "part.html",
            key=key,
            about=about,
            newer=newer,
            older=older,
            filters=filters,
            labels=Label,
            has_frame=self._is_there(key, ".png"),
        )

    def _is_there(self, key: Key, suffix: str) -> bool:
        return (self._files.root / f"{key.path}{suffix}").is_file()

    def _label(self, day: str, camera: str, stem: str) -> AnyResponse:
        key, filters, word = _key(day, camera, stem), _filters(), request.form.get("label", "")
        if word not in (*Label, ""):
            abort(HTTPStatus.BAD_REQUEST, "A label is defect, overkill or unsure.")
        said = Said(Label(word), g.session.by, rfc3339(self._utc_ns())) if word else None
        try:
            self._files.label(key, said)
        except NoSuchSnapshot:
            abort(HTTPStatus.NOT_FOUND, "This snapshot is no longer there.")
        except ValueError:
            abort(HTTPStatus.CONFLICT, "This snapshot's .json is damaged: it can't be labelled.")
        except OSError as error:
            abort(HTTPStatus.INSUFFICIENT_STORAGE, f"The label can't be written: {error.strerror}.")
        self._index.about(self._index.find(key), fresh=True)
        return redirect(address("part", key, filters), HTTPStatus.SEE_OTHER)

    def _picture(self, day: str, camera: str, stem: str, which: str) -> AnyResponse:
        make = {
            "thumbnail": self._pictures.thumbnail,
            "frame": self._pictures.frame,
            "heatmap": self._pictures.heatmap,
        }[which]
        return self._sent(make, _key(day, camera, stem), "image/jpeg")

    def _original(self, day: str, camera: str, stem: str) -> AnyResponse:
        return self._sent(self._pictures.original, _key(day, camera, stem), "image/png")

    def _sent(self, make: Callable[[Key], bytes], key: Key, kind: str) -> AnyResponse:
        try:
            content = make(key)
        except NoSuchSnapshot:
            abort(HTTPStatus.NOT_FOUND, "This picture is no longer there.")
        response = Response(content, mimetype=kind)
        response.headers["Cache-Control"] = _UNCHANGING
        return response

    def _help(self) -> str:
        return render_template("help.html")


def address(endpoint: str, key: Key, filters: Filters | None = None, **more: str) -> str:
    """A snapshot's page or picture, with the filters behind it: one of them is called `camera`, too."""
    path = url_for(endpoint, day=key.day, camera=key.camera, stem=key.stem, **more)  # type: ignore[arg-type]
    query = urlencode(filters.query()) if filters else ""
    return f"{path}?{query}" if query else path


def _key(day: str, camera: str, stem: str) -> Key:
    try:
        return Key.parse(day, camera, stem)
    except NoSuchSnapshot:
        abort(HTTPStatus.NOT_FOUND, "There is no such snapshot.")


def _filters() -> Filters:
    try:
        return Filters.parse(request.args)
    except BadFilter as error:
        abort(HTTPStatus.BAD_REQUEST, f"{error}.")


def _place() -> Place | None:
    try:
        return Place.parse(request.args)
    except BadFilter as error:
        abort(HTTPStatus.BAD_REQUEST, f"{error}.")
