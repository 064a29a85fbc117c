"""The pages on which a recipe is taught: see a camera, collect good parts, teach, look at the result.

It knows nothing of how images are saved or recipes trained (`monitor.teaching`), nor of single images
(`teach_image_pages`). Everything that a person does here is recorded before it is done. What is taught here
judges no part of the running line before a person puts it in force.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor import paths
from monitor.accounts.permissions import Permission, roles_for
from monitor.accounts.signature import NOBODY
from monitor.errors import LineMonitorError
from monitor.model.image_mark import list_digest
from monitor.model.version_files import list_versions
from monitor.model.version_summary import summarise
from monitor.names import NAME, NAME_RULE, join_version
from monitor.review.defect_sources import count_sources, identify_frame, identify_key, name_defect
from monitor.review.filters import RECIPE, Filters
from monitor.review.judged_cameras import VersionUse, find_use
from monitor.review.line_view import LineView
from monitor.review.recorded_changes import RecordedChanges
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles
from monitor.review.snapshot_index import SnapshotIndex
from monitor.review.taught_version import TaughtVersion, find_taught
from monitor.review.teach_image_pages import STEPS, TeachImagePages, parse_kind
from monitor.review.teach_requests import TeachRequests
from monitor.review.teaching_progress import describe_progress
from monitor.settings import Settings
from monitor.snapshots.labels import Label, SnapshotDetails
from monitor.teaching.frame_collection import Collection, Collections, CollectionState
from monitor.teaching.job_runner import RunningJob, TeachingJobs
from monitor.teaching.odd_images import LEAST_COMPARED
from monitor.teaching.teaching_folder import MOST_DEFECTS, ImageKind, TeachingFolder, most_images
from monitor.teaching.teaching_job import Job, JobKind, JobState, read_job
from monitor.training.compare import Compare
from monitor.training.decision_picture import PICTURE
from monitor.training.oddest_images import SHEET

SUGGESTED = 200
"""Good parts: with a student 99 of them calibrate, which guarantees that at most 1 % are rejected."""
SUGGESTED_DEFECTS = 10
NAME_FIELD = re.sub(r"-(?=\])", r"\\-", NAME)
"""The rule for names in a form's field: browsers refuse a bare - at the end of a set of characters."""
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
        self._jobs, self._collections = jobs, collections
        self._recipes = paths.recipes(settings)
        self._requests = TeachRequests(settings, changes, jobs, collections)
        self._images = TeachImagePages(app, self._requests, collections)
        app.add_url_rule("/teach", "teach", self._choose)
        page = "/teach/<camera>/<recipe>"
        app.add_url_rule(page, "teach_recipe", self._show)
        app.add_url_rule(f"{page}/state", "teach_state", self._state)
        app.add_url_rule(f"{page}/<any(decisions, oddest):which>.png", "teach_result", self._result)
        part = "/part/<day>/<camera>/<stem>/known-defect"
        app.add_url_rule(part, "teach_known_defect", self._add_known_defect, methods=["POST"])
        app.jinja_env.globals["is_known_defect"] = self._is_known_defect
        forms: dict[str, Callable[[str, str], AnyResponse]] = {
            "collect": self._collect,
            "stop": self._stop,
            "defects": self._add_defects,
            "start": self._start,
            "count": self._count,
            "cancel": self._cancel,
            "resume": self._resume,
        }
        for name, form in forms.items():
            app.add_url_rule(f"{page}/{name}", f"teach_{name}", form, methods=["POST"])

    # What people see

    def _choose(self) -> AnyResponse | str | tuple[str, HTTPStatus]:
        camera, recipe = request.args.get("camera", ""), request.args.get("recipe", "").strip()
        if not camera:
            return self._list_cameras()
        if not RECIPE.fullmatch(recipe):
            return self._list_cameras(refused=(camera, recipe)), HTTPStatus.BAD_REQUEST
        self._requests.find_folder(camera, recipe)
        return redirect(url_for("teach_recipe", camera=camera, recipe=recipe))

    def _list_cameras(self, refused: tuple[str, str] = ("", "")) -> str:
        """`refused` is a camera with a name that can't be a recipe's."""
        last = self._collections.last
        return render_template(
            "teach.html",
            cameras=self._settings.camera,
            running=self._jobs.running,
            kinds=JobKind,
            collection=last if last is not None and last.state is CollectionState.WORKING else None,
            refused=refused,
            name_rule=NAME_RULE,
            name_field=NAME_FIELD,
        )

    def _show(self, camera: str, recipe: str) -> str:
        folder, start = self._requests.find_folder(camera, recipe), request.args.get("start", 0, int)
        # The state first: what changes while the images are listed gives another phase, and a reload.
        values = self._state_values(camera, recipe, folder)
        is_collecting = self._requests.is_collecting(recipe)
        with self._requests.refusing():
            job = self._find_job(recipe, folder)
            names = {kind: folder.list_names(kind) for kind in ImageKind}
            removed = folder.list_removed()
        good, defects = (
            self._images.list_images(
                folder,
                kind,
                names[kind],
                job,
                start=start if kind is ImageKind.GOOD else 0,
                measured=not is_collecting,
            )
            for kind in ImageKind
        )
        taught = find_taught(self._recipes / recipe, job)
        return render_template(
            "teach_recipe.html",
            **values,
            good=good,
            defects=defects,
            removed=removed,
            sources=count_sources(names[ImageKind.DEFECT], self._find_details, self._name_version).text,
            start=start,
            moved=request.args.get("moved", 0, int),
            labelled=len(self._labelled_defects(camera, recipe, folder)),
            suggested={ImageKind.GOOD: SUGGESTED, ImageKind.DEFECT: SUGGESTED_DEFECTS},
            most={kind: most_images(kind) for kind in ImageKind},
            judges_itself=recipe in {judge.recipe for judge in self._view.judges([camera]).values()},
            compare=Compare,
            least_compared=LEAST_COMPARED,
            taught=taught,
            use=self._find_use(camera, taught) if taught is not None else None,
            signers=[role.value for role in roles_for(Permission.PROMOTE)],
            gated=self._find_gated(recipe),
            results=[which for which, file in _RESULTS.items() if (self._recipes / recipe / file).is_file()],
            resumable=job.resumable if job is not None else None,
            changed=_count_changed(job, names[ImageKind.GOOD]),
        )

    def _state(self, camera: str, recipe: str) -> str:
        values = self._state_values(camera, recipe, self._requests.find_folder(camera, recipe))
        return render_template("teach_state.html", **values)

    def _state_values(self, camera: str, recipe: str, folder: TeachingFolder) -> dict[str, object]:
        """The values of `teach_state.html`, the part of the page that changes while people look at it."""
        with self._requests.refusing():
            job = self._find_job(recipe, folder)
            phase = _phase(self._collections.last, recipe, job, self._jobs.running)
            counts = {kind: len(folder.list_names(kind)) for kind in ImageKind}
        collection, running = self._collections.last, self._jobs.running
        if collection is not None and collection.recipe != recipe:
            collection = None
        is_other = running is not None and running.job.recipe != recipe
        own = None if is_other else running
        return {
            "camera": camera,
            "recipe": recipe,
            "counts": counts,
            "kinds": ImageKind,
            "collection": collection,
            "is_collecting": self._requests.is_collecting(recipe),
            "collection_states": CollectionState,
            "job": job,
            "job_kinds": JobKind,
            "job_states": JobState,
            "running": own,
            "progress": describe_progress(
                own.job,
                own.progress,
                has_defects=counts[ImageKind.DEFECT] > 0,
                silence_s=self._jobs.silence_s(own),
            )
            if own is not None
            else None,
            "other": running.job.recipe if running is not None and is_other else "",
            "phase": phase,
        }

    def _find_job(self, recipe: str, folder: TeachingFolder) -> Job | None:
        """The recipe's last teaching. Raises TeachingError."""
        running = self._jobs.running
        if running is not None and running.job.recipe == recipe:
            return running.job
        return read_job(folder.root)

    def _find_details(self, key: Key) -> SnapshotDetails:
        return self._index.details(self._index.find(key))

    def _name_version(self, recipe: str, sha: str) -> str:
        """The version in words, by its recipe and sha256."""
        if not RECIPE.fullmatch(recipe):
            return "an unknown version"
        try:
            versions = list_versions(self._recipes / recipe)
        except LineMonitorError:
            # The page Recipes names the reason.
            versions = []
        found = next((one.number for one in versions if sha and sha.startswith(one.digits)), None)
        return join_version(recipe, found) if found is not None else f"a version of {recipe} that is gone"

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

    def _result(self, camera: str, recipe: str, which: str) -> AnyResponse:
        self._requests.find_folder(camera, recipe)
        try:
            content = (self._recipes / recipe / _RESULTS[which]).read_bytes()
        except OSError:
            abort(HTTPStatus.NOT_FOUND, "There is no such image.")
        return Response(content, mimetype="image/png")

    # What people do

    def _collect(self, camera: str, recipe: str) -> AnyResponse:
        folder, count = self._requests.find_folder(camera, recipe), request.form.get("count", "")
        kind = parse_kind(request.form.get("kind", ""))
        if not count.isdecimal() or len(count) > 5:
            most = most_images(kind)
            abort(HTTPStatus.BAD_REQUEST, f"How many images? Give a number from 1 to {most}.")
        with_rejected = kind is ImageKind.GOOD and request.form.get("rejected") == "yes"
        also = ", those too that the recipe rejects" if with_rejected else ""
        shown = "good parts" if kind is ImageKind.GOOD else "known defects"
        self._requests.refuse_while_taught(recipe)
        with self._requests.recording(
            recipe, f"{count} images of camera {camera} are collected as {shown}{also}"
        ):
            self._collections.start(
                recipe, camera, int(count), folder, kind=kind, with_rejected=with_rejected
            )
            folder.discard_removed()
        return self._requests.go_back(camera, recipe, STEPS[kind])

    def _stop(self, camera: str, recipe: str) -> AnyResponse:
        self._requests.find_folder(camera, recipe)
        last = self._collections.last
        with self._requests.recording(recipe, "the collection is stopped"):
            self._collections.stop()
        return self._requests.go_back(camera, recipe, STEPS[last.kind if last else ImageKind.GOOD])

    def _add_defects(self, camera: str, recipe: str) -> AnyResponse:
        """Copies the camera's parts that people labelled as real defects."""
        folder = self._requests.find_folder(camera, recipe)
        self._requests.refuse_while_taught(recipe)
        keys, moved = self._labelled_defects(camera, recipe, folder), 0
        what = f"{len(keys)} labelled parts of camera {camera} added as known defects{_TWINS}"
        with self._requests.recording(recipe, what):
            folder.discard_removed()
            for key in keys:
                try:
                    moved += folder.add_defect(name_defect(key), self._files.read(key, ".png"))
                except NoSuchSnapshot:
                    # It was deleted meanwhile.
                    continue
        return self._requests.go_back(camera, recipe, "defects", moved=moved or None)

    def _add_known_defect(self, day: str, camera: str, stem: str) -> AnyResponse:
        """Copies one part that somebody labelled as a real defect."""
        try:
            key = Key.parse(day, camera, stem)
            details, content = self._files.details(key), self._files.read(key, ".png")
        except NoSuchSnapshot:
            abort(HTTPStatus.NOT_FOUND, "This image was deleted.")
        if details.label is not Label.DEFECT:
            abort(HTTPStatus.CONFLICT, "Label the part as a real defect first.")
        folder = self._requests.find_folder(camera, details.recipe)
        self._requests.refuse_while_taught(details.recipe)
        with self._requests.recording(
            details.recipe, f"snapshots/{key.path} added as a known defect{_TWINS}"
        ):
            folder.discard_removed()
            folder.add_defect(name_defect(key), content)
        return redirect(url_for("part", day=day, camera=camera, stem=stem), HTTPStatus.SEE_OTHER)

    def _is_known_defect(self, key: Key, recipe: str) -> bool:
        """Whether the part is among the known defects of that recipe."""
        if not RECIPE.fullmatch(recipe):
            return False
        folder = TeachingFolder.of(self._settings, recipe)
        return (folder.place(ImageKind.DEFECT) / name_defect(key)).is_file()

    def _start(self, camera: str, recipe: str) -> AnyResponse:
        folder, word = self._requests.find_folder(camera, recipe), request.form.get("compare", "")
        if word not in (Compare.MEMORY, Compare.BOTH):
            abort(HTTPStatus.BAD_REQUEST, "Choose whether to teach by memory alone, or the student too.")
        self._requests.refuse_while_collecting(recipe)
        with self._requests.refusing():
            good, defects = (folder.list_names(kind) for kind in ImageKind)
        if not good:
            abort(HTTPStatus.CONFLICT, "There is no image of a good part yet: collect some first.")
        what = (
            f"teaching of {word} is started from {len(good)} good images, sha256 of their names "
            f"{list_digest(good)}, with {len(defects)} known defects"
        )
        with self._requests.recording(recipe, what):
            self._jobs.start(recipe, camera, Compare(word), g.session.by or NOBODY)
            folder.discard_removed()
        return self._requests.go_back(camera, recipe, "teach")

    def _count(self, camera: str, recipe: str) -> AnyResponse:
        """Counts which known defects pass with the version that the page shows as the result."""
        folder = self._requests.find_folder(camera, recipe)
        self._requests.refuse_while_collecting(recipe)
        with self._requests.refusing():
            job, defects = read_job(folder.root), folder.list_names(ImageKind.DEFECT)
        taught = find_taught(self._recipes / recipe, job)
        if taught is None or not defects:
            missing = "known defect" if taught is not None else "version of the recipe"
            abort(HTTPStatus.CONFLICT, f"There is no {missing} yet, so nothing can be counted.")
        version = taught.summary.version
        what = f"count of what passes with {version.name} is started, with {len(defects)} known defects"
        with self._requests.recording(recipe, what):
            self._jobs.count(recipe, camera, version.number, g.session.by or NOBODY)
            folder.discard_removed()
        return self._requests.go_back(camera, recipe, "teach")

    def _cancel(self, camera: str, recipe: str) -> AnyResponse:
        self._requests.find_folder(camera, recipe)
        with self._requests.recording(recipe, "the teaching is cancelled"):
            self._jobs.cancel(recipe)
        return self._requests.go_back(camera, recipe, "teach")

    def _resume(self, camera: str, recipe: str) -> AnyResponse:
        self._requests.find_folder(camera, recipe)
        with self._requests.recording(recipe, "the teaching is resumed"):
            self._jobs.resume(recipe, g.session.by or NOBODY)
        return self._requests.go_back(camera, recipe, "teach")

    # What both need

    def _labelled_defects(self, camera: str, recipe: str, folder: TeachingFolder) -> list[Key]:
        """The camera's parts that the recipe judged, that are labelled as real defects, and that are not yet
        among the known ones. Parts of other recipes may be of another product."""
        with self._requests.refusing():
            known = frozenset(folder.list_names(ImageKind.DEFECT))
        wanted = Filters(camera=camera, recipe=recipe, label=Label.DEFECT, verdict="all")
        labelled = self._index.matching(wanted)
        frames = {identify_frame(name) for name in known}
        keys = [entry.key for entry in labelled if identify_key(entry.key) not in frames]
        return keys[: max(0, MOST_DEFECTS - len(known))]


def _phase(collection: Collection | None, recipe: str, job: Job | None, running: RunningJob | None) -> str:
    """A word that changes when the recipe's page shows other things than numbers."""
    runs = running.job.recipe if running is not None else ""
    collects = collection.state.value if collection is not None and collection.recipe == recipe else ""
    return "-".join((collects, job.state.value if job else "", runs))


def _count_changed(job: Job | None, good: Sequence[str]) -> int:
    """How many good images were added or removed since the student began that can be resumed."""
    resumable = job.resumable if job is not None else None
    return resumable.count_changed(good) if resumable is not None and resumable.compare.has_student else 0
