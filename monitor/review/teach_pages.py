"""The pages on which a recipe is taught: see a camera, collect good parts, teach, look at the result.

It knows nothing of how images are saved or recipes trained (`monitor.teaching`). Everything that a person
does here is recorded before it is done. What is taught here judges no part of the running line before a
person puts it in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from drivers import image_file
from drivers.image_file import ImageError
from monitor import paths
from monitor.accounts.permissions import Permission, roles_for
from monitor.accounts.signature import NOBODY
from monitor.audit.entry import Kind
from monitor.errors import LineMonitorError
from monitor.images.overlay import draw_panel
from monitor.model.image_mark import list_digest
from monitor.model.version_summary import summarise
from monitor.names import NAME_RULE, InvalidNameError
from monitor.review.filters import RECIPE, Filters
from monitor.review.judged_cameras import VersionUse, find_use
from monitor.review.line_view import LineView
from monitor.review.pictures import PictureCache, encode_jpeg
from monitor.review.recorded_changes import RecordedChanges
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles
from monitor.review.snapshot_index import SnapshotIndex
from monitor.review.taught_version import TaughtVersion, find_taught
from monitor.settings import Settings
from monitor.snapshots.labels import Label
from monitor.teaching.frame_collection import Collection, Collections, CollectionState
from monitor.teaching.image_measures import ImageMeasures
from monitor.teaching.job_runner import RunningJob, TeachingJobs
from monitor.teaching.odd_images import Oddity
from monitor.teaching.teaching_folder import (
    MOST_DEFECTS,
    MOST_IMAGES,
    ImageKind,
    TeachingError,
    TeachingFolder,
)
from monitor.teaching.teaching_job import Job, JobState, read_job
from monitor.training.compare import Compare
from monitor.training.decision_picture import PICTURE
from monitor.training.oddest_images import SHEET

SUGGESTED = 200
"""Good parts: with a student 99 of them calibrate, which guarantees that at most 1 % are rejected."""
_MOST_SHOWN = 60
"""Images without an oddity that a page shows; those with one are all shown."""
_STEPS = {
    "read": "Reading the images",
    "train": "Teaching the student, epochs",
    "memory": "Filling the memory",
    "calibrate": "Setting the threshold, images",
    "score": "Scoring the known defects",
}
"""The steps of a training in words, by the first word of their names; others are shown by their names."""
_TWINS = ", and removed from the good parts where it is one of them"
_RESULTS = {"decisions": PICTURE, "oddest": SHEET}
"""The images beside a recipe that a page shows, by the name in their address."""


class TeachPages:
    """Registers its addresses with the application."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        view: LineView,
        files: SnapshotFiles,
        index: SnapshotIndex,
        changes: RecordedChanges,
        jobs: TeachingJobs,
        collections: Collections,
    ) -> None:
        self._settings, self._view, self._files, self._index = settings, view, files, index
        self._changes, self._jobs, self._collections = changes, jobs, collections
        self._cameras = frozenset(camera.name for camera in settings.camera)
        self._recipes = paths.recipes(settings)
        self._measures, self._pictures = ImageMeasures(), PictureCache()
        app.add_url_rule("/teach", "teach", self._choose)
        page = "/teach/<camera>/<recipe>"
        app.add_url_rule(page, "teach_recipe", self._show)
        app.add_url_rule(f"{page}/state", "teach_state", self._state)
        app.add_url_rule(f"{page}/<any(good, defects):kind>/<name>.jpg", "teach_picture", self._picture)
        app.add_url_rule(f"{page}/<any(decisions, oddest):which>.png", "teach_result", self._result)
        part = "/part/<day>/<camera>/<stem>/known-defect"
        app.add_url_rule(part, "teach_known_defect", self._add_known_defect, methods=["POST"])
        app.jinja_env.globals["is_known_defect"] = self._is_known_defect
        forms: dict[str, Callable[[str, str], AnyResponse]] = {
            "collect": self._collect,
            "stop": self._stop,
            "remove": self._remove,
            "defects": self._add_defects,
            "start": self._start,
            "cancel": self._cancel,
            "resume": self._resume,
        }
        for name, form in forms.items():
            app.add_url_rule(f"{page}/{name}", f"teach_{name}", form, methods=["POST"])

    # What people see

    def _choose(self) -> AnyResponse | str:
        camera, recipe = request.args.get("camera", ""), request.args.get("recipe", "").strip()
        if camera:
            self._find(camera, recipe)
            return redirect(url_for("teach_recipe", camera=camera, recipe=recipe))
        return render_template(
            "teach.html", cameras=self._settings.camera, running=self._jobs.running, name_rule=NAME_RULE
        )

    def _show(self, camera: str, recipe: str) -> str:
        folder = self._find(camera, recipe)
        with self._refusing():
            job = self._find_job(recipe, folder)
            good = folder.list_names(ImageKind.GOOD)
            defects = folder.list_names(ImageKind.DEFECT)
        is_collecting = self._is_collecting(recipe)
        oddities = None if is_collecting else self._find_oddities(folder, good, job)
        odd = [(name, oddities[name]) for name in good if oddities.get(name)] if oddities else []
        plain = [name for name in good if not (oddities and oddities.get(name))]
        taught = find_taught(self._recipes / recipe, job)
        return render_template(
            "teach_recipe.html",
            **self._state_values(camera, recipe, folder),
            odd=odd,
            is_measuring=oddities is None and not is_collecting,
            plain=plain[::-1][:_MOST_SHOWN],
            more=max(0, len(plain) - _MOST_SHOWN),
            defects=defects[::-1],
            moved=request.args.get("moved", 0, int),
            labelled=len(self._labelled_defects(camera, recipe, folder)),
            suggested=SUGGESTED,
            most=MOST_IMAGES,
            judges_itself=self._view.judging_recipe(camera) == recipe,
            compare=Compare,
            taught=taught,
            use=self._find_use(camera, taught) if taught is not None else None,
            signers=[role.value for role in roles_for(Permission.PROMOTE)],
            gated=self._find_gated(recipe),
            results=[which for which, file in _RESULTS.items() if (self._recipes / recipe / file).is_file()],
            has_versions=self._has_versions(recipe),
            resumable=job.resumable if job is not None else None,
            changed=_count_changed(job, good),
        )

    def _state(self, camera: str, recipe: str) -> str:
        values = self._state_values(camera, recipe, self._find(camera, recipe))
        return render_template("teach_state.html", **values)

    def _state_values(self, camera: str, recipe: str, folder: TeachingFolder) -> dict[str, object]:
        """The values of `teach_state.html`, the part of the page that changes while people look at it."""
        with self._refusing():
            job = self._find_job(recipe, folder)
            count = len(folder.list_names(ImageKind.GOOD))
        collection, running = self._collections.last, self._jobs.running
        if collection is not None and collection.recipe != recipe:
            collection = None
        is_other = running is not None and running.job.recipe != recipe
        return {
            "camera": camera,
            "recipe": recipe,
            "count": count,
            "collection": collection,
            "is_collecting": self._is_collecting(recipe),
            "collection_states": CollectionState,
            "job": job,
            "job_states": JobState,
            "step": _describe_step(running.progress.step) if running and running.progress else "",
            "running": None if is_other else running,
            "other": running.job.recipe if running is not None and is_other else "",
            "phase": _phase(collection, job, running),
        }

    def _find_job(self, recipe: str, folder: TeachingFolder) -> Job | None:
        """The recipe's last teaching. Raises TeachingError."""
        running = self._jobs.running
        if running is not None and running.job.recipe == recipe:
            return running.job
        return read_job(folder.root)

    def _find_oddities(
        self, folder: TeachingFolder, names: Sequence[str], job: Job | None
    ) -> dict[str, Sequence[Oddity]] | None:
        found = self._measures.find_oddities(folder, names)
        if found is None:
            return None
        oddest = frozenset(job.oddest) if job is not None else frozenset()
        return {
            name: sorted(oddities | ({Oddity.ODDEST} if name in oddest else set()))
            for name, oddities in found.items()
        }

    def _has_versions(self, recipe: str) -> bool:
        try:
            return bool(summarise(self._recipes / recipe))
        except LineMonitorError:
            return False

    def _find_use(self, camera: str, taught: TaughtVersion) -> VersionUse:
        configured = {one.name: one.recipe for one in self._settings.camera if one.name == camera}
        return find_use(taught.summary.version, self._view.judges([camera]), configured)

    def _find_gated(self, recipe: str) -> str:
        """The version in force where it has a presence gate, which a teaching from the page does not make;
        empty where it has none."""
        try:
            summaries = summarise(self._recipes / recipe)
        except LineMonitorError:
            # The page Recipes names the reason.
            return ""
        present = next((one for one in summaries if one.is_in_force and one.document), None)
        has_gate = present is not None and present.document is not None and present.document.presence
        return present.version.name if present is not None and has_gate else ""

    def _picture(self, camera: str, recipe: str, kind: str, name: str) -> AnyResponse:
        folder = self._find(camera, recipe)
        try:
            file = folder.find(ImageKind(kind), name)
            content = self._pictures.get((str(file), "thumbnail"), lambda: _thumbnail(file))
        except (TeachingError, ImageError):
            abort(HTTPStatus.NOT_FOUND, "There is no such image.")
        return Response(content, mimetype="image/jpeg")

    def _result(self, camera: str, recipe: str, which: str) -> AnyResponse:
        self._find(camera, recipe)
        try:
            content = (self._recipes / recipe / _RESULTS[which]).read_bytes()
        except OSError:
            abort(HTTPStatus.NOT_FOUND, "There is no such image.")
        return Response(content, mimetype="image/png")

    # What people do

    def _collect(self, camera: str, recipe: str) -> AnyResponse:
        folder, count = self._find(camera, recipe), request.form.get("count", "")
        if not count.isdecimal() or len(count) > 5:
            abort(HTTPStatus.BAD_REQUEST, f"How many images? Give a number from 1 to {MOST_IMAGES}.")
        with_rejected = request.form.get("rejected") == "yes"
        also = ", those too that the recipe rejects" if with_rejected else ""
        self._refuse_while_taught(recipe)
        with self._recording(recipe, f"{count} images of camera {camera} are collected as good parts{also}"):
            self._collections.start(recipe, camera, int(count), folder, with_rejected=with_rejected)
        return self._back(camera, recipe, "collect")

    def _stop(self, camera: str, recipe: str) -> AnyResponse:
        self._find(camera, recipe)
        with self._recording(recipe, "the collection is stopped"):
            self._collections.stop()
        return self._back(camera, recipe, "collect")

    def _remove(self, camera: str, recipe: str) -> AnyResponse:
        """Removes one image, or all that have one oddity."""
        folder = self._find(camera, recipe)
        name, oddity = request.form.get("name", ""), request.form.get("oddity", "")
        kind = ImageKind.DEFECT if request.form.get("kind") == ImageKind.DEFECT else ImageKind.GOOD
        self._refuse_while_taught(recipe)
        if oddity:
            kind, names = ImageKind.GOOD, self._find_odd(folder, oddity)
        else:
            with self._refusing():
                names = [folder.find(kind, name).name]
        what = f"{len(names)} images, {oddity}" if oddity else f"image {kind}/{name}"
        with self._recording(recipe, f"removed: {what}"):
            for one in names:
                folder.remove(kind, one)
        return self._back(camera, recipe, "collect" if kind is ImageKind.GOOD else "defects")

    def _find_odd(self, folder: TeachingFolder, word: str) -> list[str]:
        """The good images that have the oddity. Ends the request with one line where there are none."""
        try:
            oddity = Oddity(word)
        except ValueError:
            abort(HTTPStatus.BAD_REQUEST, "There is no such oddity.")
        with self._refusing():
            oddities = self._find_oddities(folder, folder.list_names(ImageKind.GOOD), None)
        names = [one for one, own in (oddities or {}).items() if oddity in own]
        if not names:
            abort(HTTPStatus.CONFLICT, f"No image is marked as {oddity.text} now: load the page again.")
        return names

    def _add_defects(self, camera: str, recipe: str) -> AnyResponse:
        """Copies the camera's parts that people labelled as real defects."""
        folder = self._find(camera, recipe)
        self._refuse_while_taught(recipe)
        keys, moved = self._labelled_defects(camera, recipe, folder), 0
        what = f"{len(keys)} labelled parts of camera {camera} added as known defects{_TWINS}"
        with self._recording(recipe, what):
            for key in keys:
                try:
                    moved += folder.add_defect(_defect_name(key), self._files.read(key, ".png"))
                except NoSuchSnapshot:
                    # It was deleted meanwhile.
                    continue
        return self._back(camera, recipe, "defects", moved=moved or None)

    def _add_known_defect(self, day: str, camera: str, stem: str) -> AnyResponse:
        """Copies one part that somebody labelled as a real defect."""
        try:
            key = Key.parse(day, camera, stem)
            details, content = self._files.details(key), self._files.read(key, ".png")
        except NoSuchSnapshot:
            abort(HTTPStatus.NOT_FOUND, "This image was deleted.")
        if details.label is not Label.DEFECT:
            abort(HTTPStatus.CONFLICT, "Label the part as a real defect first.")
        folder = self._find(camera, details.recipe)
        self._refuse_while_taught(details.recipe)
        with self._recording(details.recipe, f"snapshots/{key.path} added as a known defect{_TWINS}"):
            folder.add_defect(_defect_name(key), content)
        return redirect(url_for("part", day=day, camera=camera, stem=stem), HTTPStatus.SEE_OTHER)

    def _is_known_defect(self, key: Key, recipe: str) -> bool:
        """Whether the part is among the known defects of that recipe."""
        if not RECIPE.fullmatch(recipe):
            return False
        folder = TeachingFolder.of(self._settings, recipe)
        return (folder.place(ImageKind.DEFECT) / _defect_name(key)).is_file()

    def _start(self, camera: str, recipe: str) -> AnyResponse:
        folder, word = self._find(camera, recipe), request.form.get("compare", "")
        if word not in (Compare.MEMORY, Compare.BOTH):
            abort(HTTPStatus.BAD_REQUEST, "Choose whether to teach by memory alone, or the student too.")
        if self._is_collecting(recipe):
            abort(HTTPStatus.CONFLICT, "Images are being collected: wait until that ends, or stop it.")
        with self._refusing():
            good, defects = (folder.list_names(kind) for kind in ImageKind)
        if not good:
            abort(HTTPStatus.CONFLICT, "There is no image of a good part yet: collect some first.")
        what = (
            f"teaching of {word} is started from {len(good)} good images, sha256 of their names "
            f"{list_digest(good)}, with {len(defects)} known defects"
        )
        with self._recording(recipe, what):
            self._jobs.start(recipe, camera, Compare(word), g.session.by or NOBODY)
        return self._back(camera, recipe, "teach")

    def _cancel(self, camera: str, recipe: str) -> AnyResponse:
        self._find(camera, recipe)
        with self._recording(recipe, "the teaching is cancelled"):
            self._jobs.cancel(recipe)
        return self._back(camera, recipe, "teach")

    def _resume(self, camera: str, recipe: str) -> AnyResponse:
        self._find(camera, recipe)
        with self._recording(recipe, "the teaching is resumed"):
            self._jobs.resume(recipe, g.session.by or NOBODY)
        return self._back(camera, recipe, "teach")

    # What both need

    def _labelled_defects(self, camera: str, recipe: str, folder: TeachingFolder) -> list[Key]:
        """The camera's parts that the recipe judged, that are labelled as real defects, and that are not yet
        among the known ones. Parts of other recipes may be of another product."""
        with self._refusing():
            known = frozenset(folder.list_names(ImageKind.DEFECT))
        wanted = Filters(camera=camera, recipe=recipe, label=Label.DEFECT, verdict="all")
        labelled = self._index.matching(wanted)
        keys = [entry.key for entry in labelled if _defect_name(entry.key) not in known]
        return keys[: max(0, MOST_DEFECTS - len(known))]

    def _refuse_while_taught(self, recipe: str) -> None:
        """Ends the request with one line: a training that reads the images must not find others."""
        running = self._jobs.running
        if running is not None and running.job.recipe == recipe:
            abort(
                HTTPStatus.CONFLICT,
                f"Recipe {recipe} is being taught from these images: wait until that ends, or cancel it.",
            )

    def _is_collecting(self, recipe: str) -> bool:
        last = self._collections.last
        return last is not None and last.recipe == recipe and last.state is CollectionState.WORKING

    def _find(self, camera: str, recipe: str) -> TeachingFolder:
        """The recipe's folder. Ends the request with one line for a camera or a name that can't be."""
        if camera not in self._cameras:
            abort(HTTPStatus.NOT_FOUND, "There is no such camera.")
        if not RECIPE.fullmatch(recipe):
            abort(HTTPStatus.BAD_REQUEST, f"A recipe's name has {NAME_RULE}.")
        try:
            return TeachingFolder.of(self._settings, recipe)
        except InvalidNameError as error:
            abort(HTTPStatus.BAD_REQUEST, f"{error}.")

    @contextmanager
    def _recording(self, recipe: str, what: str) -> Iterator[None]:
        """Records what a person does, then runs the block that does it."""
        with (
            self._refusing(),
            self._changes.recording(Kind.TRAINING, f"recipe.{recipe}.teaching", None, what),
        ):
            yield

    @staticmethod
    @contextmanager
    def _refusing() -> Iterator[None]:
        """Ends the request with one line where the block raises an expected error."""
        try:
            yield
        except LineMonitorError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")

    @staticmethod
    def _back(camera: str, recipe: str, step: str, *, moved: int | None = None) -> AnyResponse:
        """To the page again, at that step; it says how many good parts became known defects."""
        address = url_for("teach_recipe", camera=camera, recipe=recipe, _anchor=step, moved=moved)
        return redirect(address, HTTPStatus.SEE_OTHER)


def _phase(collection: Collection | None, job: Job | None, running: RunningJob | None) -> str:
    """A word that changes when the page shows other things than numbers."""
    runs = running.job.recipe if running is not None else ""
    return "-".join((collection.state.value if collection else "", job.state.value if job else "", runs))


def _count_changed(job: Job | None, good: Sequence[str]) -> int:
    """How many good images were added or removed since the student began that can be resumed."""
    resumable = job.resumable if job is not None else None
    return resumable.count_changed(good) if resumable is not None and resumable.compare.has_student else 0


def _describe_step(step: str) -> str:
    return _STEPS.get(step.partition(" ")[0], step)


def _defect_name(key: Key) -> str:
    return f"{key.day}_{key.stem}.png"


def _thumbnail(file: Path) -> bytes:
    """Raises ImageError."""
    return encode_jpeg(draw_panel(image_file.read(file)), 75)
