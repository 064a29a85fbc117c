"""The images of a teaching: all in pages, one large, what stands out, how they are removed and come back.

It knows nothing of trainings. Everything that a person does here is recorded before it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import cv2
from flask import Flask, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from drivers import image_file
from drivers.image_file import Image, ImageError
from monitor.images.overlay import draw_panel
from monitor.review.pictures import PictureCache, encode_jpeg
from monitor.review.teach_requests import TeachRequests
from monitor.teaching.frame_collection import Collections
from monitor.teaching.image_measures import ImageMeasures
from monitor.teaching.odd_images import Oddity
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder
from monitor.teaching.teaching_job import Job, read_job

PER_PAGE = 60
"""Images without an oddity on one page; those with one are all on the first."""
_LARGE_PX = 1600
"""The longer side of a large picture is at most so long."""
STEPS = {ImageKind.GOOD: "collect", ImageKind.DEFECT: "defects"}
"""The step of the page Teach that shows the images of a kind."""


@dataclass(frozen=True, slots=True)
class OddImage:
    """An image that stands out."""

    name: str
    oddities: Sequence[Oddity]
    ratio: float | None = None
    """Its score in thresholds, where it is among the oddest of the last teaching."""


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images of one kind as a page shows them."""

    kind: ImageKind
    total: int
    odd: Sequence[OddImage]
    """Those that stand out: the oddest of the last teaching first, as they are ranked."""
    plain: Sequence[str]
    """The others of this page, newest first."""
    plain_total: int
    start: int
    """How many of the others come before this page's."""
    is_measuring: bool

    @property
    def oddity_counts(self) -> dict[Oddity, int]:
        """How many images have each oddity by which all of them can be removed."""
        found = [oddity for image in self.odd for oddity in image.oddities if oddity is not Oddity.ODDEST]
        return {oddity: found.count(oddity) for oddity in Oddity if oddity in found}

    @property
    def earlier(self) -> int | None:
        """Where the page before starts."""
        return max(0, self.start - PER_PAGE) if self.start else None

    @property
    def later(self) -> int | None:
        """Where the next page starts."""
        following = self.start + PER_PAGE
        return following if following < self.plain_total else None


class TeachImagePages:
    """Registers its addresses with the application."""

    def __init__(self, app: Flask, requests: TeachRequests, collections: Collections) -> None:
        self._requests, self._collections = requests, collections
        self._measures, self._pictures = ImageMeasures(), PictureCache()
        page = "/teach/<camera>/<recipe>"
        image = f"{page}/<any(good, defects):kind>/<name>"
        app.add_url_rule(f"{image}.jpg", "teach_picture", self._picture)
        app.add_url_rule(f"{image}/large", "teach_image", self._show_image)
        app.add_url_rule(f"{image}/large.jpg", "teach_large_picture", self._large_picture)
        app.add_url_rule(f"{page}/remove", "teach_remove", self._remove, methods=["POST"])
        app.add_url_rule(f"{page}/remove", "teach_remove_all", self._ask_about_all)
        app.add_url_rule(f"{page}/restore", "teach_restore", self._restore, methods=["POST"])

    def list_images(
        self,
        folder: TeachingFolder,
        kind: ImageKind,
        names: Sequence[str],
        job: Job | None,
        *,
        start: int = 0,
        measured: bool = True,
    ) -> ImageList:
        """The images of that kind, whose `names` are oldest first. `measured`: with what stands out."""
        oddities = self._find_oddities(folder, kind, names, job) if measured else None
        ranks = {name: rank for rank, name in enumerate(job.oddest)} if job is not None else {}
        scores = dict(zip(job.oddest, job.oddest_scores, strict=False)) if job is not None else {}
        odd = [
            OddImage(name, own, scores.get(name) if Oddity.ODDEST in own else None)
            for name, own in (oddities or {}).items()
            if own
        ]
        odd.sort(key=lambda image: (ranks.get(image.name, len(ranks)), image.name))
        standing_out = {image.name for image in odd}
        plain = [name for name in reversed(names) if name not in standing_out]
        first = min(max(0, start), max(0, len(plain) - 1)) // PER_PAGE * PER_PAGE
        return ImageList(
            kind,
            len(names),
            odd,
            plain[first : first + PER_PAGE],
            len(plain),
            first,
            is_measuring=measured and oddities is None,
        )

    def _find_oddities(
        self, folder: TeachingFolder, kind: ImageKind, names: Sequence[str], job: Job | None
    ) -> dict[str, Sequence[Oddity]] | None:
        found = self._measures.find_oddities(folder, kind, names)
        if found is None:
            return None
        oddest = frozenset(job.oddest) if job is not None and kind is ImageKind.GOOD else frozenset()
        return {
            name: sorted(oddities | ({Oddity.ODDEST} if name in oddest else set()))
            for name, oddities in found.items()
        }

    # What people see

    def _picture(self, camera: str, recipe: str, kind: str, name: str) -> AnyResponse:
        return self._send(camera, recipe, kind, name, "thumbnail")

    def _large_picture(self, camera: str, recipe: str, kind: str, name: str) -> AnyResponse:
        return self._send(camera, recipe, kind, name, "large")

    def _send(self, camera: str, recipe: str, kind: str, name: str, size: str) -> AnyResponse:
        folder = self._requests.find_folder(camera, recipe)
        try:
            file = folder.find(ImageKind(kind), name)
            make = _large if size == "large" else _thumbnail
            content = self._pictures.get((str(file), size), lambda: make(file))
        except (TeachingError, ImageError):
            abort(HTTPStatus.NOT_FOUND, "There is no such image.")
        return Response(content, mimetype="image/jpeg")

    def _show_image(self, camera: str, recipe: str, kind: str, name: str) -> str:
        folder, own = self._requests.find_folder(camera, recipe), ImageKind(kind)
        with self._requests.refusing():
            names, job = folder.list_names(own), read_job(folder.root)
            oddities = self._find_oddities(folder, own, names, job)
            removed = len(folder.list_removed()[own])
        if name not in names:
            abort(HTTPStatus.NOT_FOUND, "There is no such image.")
        # Newest first, as the page of all images shows them.
        listed = names[::-1]
        place = listed.index(name)
        return render_template(
            "teach_image.html",
            camera=camera,
            recipe=recipe,
            kind=own,
            kinds=ImageKind,
            name=name,
            number=place + 1,
            total=len(listed),
            before=listed[place - 1] if place else None,
            after=listed[place + 1] if place + 1 < len(listed) else None,
            oddities=(oddities or {}).get(name, ()),
            removed=removed,
            is_taught=self._requests.is_taught(recipe),
            step=STEPS[own],
        )

    def _ask_about_all(self, camera: str, recipe: str) -> str:
        """Asks once before all images with one oddity are removed."""
        folder, kind = self._requests.find_folder(camera, recipe), parse_kind(request.args.get("kind", ""))
        names, oddity = self._find_odd(folder, kind, request.args.get("oddity", ""))
        return render_template(
            "teach_remove_all.html",
            camera=camera,
            recipe=recipe,
            kind=kind,
            names=names,
            oddity=oddity,
            step=STEPS[kind],
        )

    # What people do

    def _remove(self, camera: str, recipe: str) -> AnyResponse:
        """Removes one image, or all that have one oddity."""
        folder = self._requests.find_folder(camera, recipe)
        name, word, kind = (request.form.get(field, "") for field in ("name", "oddity", "kind"))
        own, following = parse_kind(kind), request.form.get("following", "")
        self._requests.refuse_while_taught(recipe)
        if word:
            names, oddity = self._find_odd(folder, own, word)
            what = f"{len(names)} {'images' if own is ImageKind.GOOD else 'known defects'}, {oddity}"
        else:
            with self._requests.refusing():
                names = [folder.find(own, name).name]
            what = f"image {own}/{name}"
        with self._requests.recording(recipe, f"removed: {what}"):
            folder.remove(own, names)
            self._collections.forget_ended(recipe)
        if following in folder.list_names(own):
            address = url_for("teach_image", camera=camera, recipe=recipe, kind=own.value, name=following)
            return redirect(address, HTTPStatus.SEE_OTHER)
        return self._requests.go_back(camera, recipe, STEPS[own])

    def _restore(self, camera: str, recipe: str) -> AnyResponse:
        """Brings the images back that were removed last."""
        folder = self._requests.find_folder(camera, recipe)
        self._requests.refuse_while_taught(recipe)
        with self._requests.refusing():
            removed = folder.list_removed()
        count = sum(map(len, removed.values()))
        if not count:
            abort(HTTPStatus.CONFLICT, "There is no removed image that could be brought back.")
        with self._requests.recording(recipe, f"brought back: {count} images that were removed last"):
            folder.restore_removed()
        return self._requests.go_back(camera, recipe, STEPS[next(one for one in removed if removed[one])])

    def _find_odd(self, folder: TeachingFolder, kind: ImageKind, word: str) -> tuple[list[str], Oddity]:
        """The images that have the oddity. Ends the request with one line where there are none."""
        try:
            oddity = Oddity(word)
        except ValueError:
            abort(HTTPStatus.BAD_REQUEST, "There is no such oddity.")
        with self._requests.refusing():
            oddities = self._find_oddities(folder, kind, folder.list_names(kind), None)
        names = [one for one, own in (oddities or {}).items() if oddity in own]
        if not names:
            abort(HTTPStatus.CONFLICT, f"No image is marked as {oddity.text} now: load the page again.")
        return names, oddity


def parse_kind(word: str) -> ImageKind:
    """The kind in a form or an address; good parts for any other word."""
    return ImageKind.DEFECT if word == ImageKind.DEFECT else ImageKind.GOOD


def _thumbnail(file: Path) -> bytes:
    """Raises ImageError."""
    return encode_jpeg(draw_panel(image_file.read(file)), 75)


def _large(file: Path) -> bytes:
    """Raises ImageError."""
    return encode_jpeg(_shrink(image_file.read(file)), 90)


def _shrink(image: Image) -> Image:
    factor = _LARGE_PX / max(image.shape[:2])
    if factor >= 1:
        return image
    rows, columns = (max(1, round(side * factor)) for side in image.shape[:2])
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA).astype(image.dtype)
