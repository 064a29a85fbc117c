"""What every request of the Teach pages passes: camera and recipe, the record of changes, refusals.

It knows nothing of what the pages show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from flask import abort, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor.audit.entry import Kind
from monitor.errors import LineMonitorError
from monitor.names import NAME_RULE, InvalidNameError
from monitor.review.filters import RECIPE
from monitor.review.recorded_changes import RecordedChanges
from monitor.settings import Settings
from monitor.teaching.frame_collection import Collections, CollectionState
from monitor.teaching.job_runner import TeachingJobs
from monitor.teaching.teaching_folder import TeachingFolder


class TeachRequests:
    """The checks that the Teach pages share. Each ends the request with one line where it refuses."""

    def __init__(
        self, settings: Settings, changes: RecordedChanges, jobs: TeachingJobs, collections: Collections
    ) -> None:
        self._settings, self._changes = settings, changes
        self._jobs, self._collections = jobs, collections
        self._cameras = frozenset(camera.name for camera in settings.camera)

    def find_folder(self, camera: str, recipe: str) -> TeachingFolder:
        """The recipe's folder."""
        if camera not in self._cameras:
            abort(HTTPStatus.NOT_FOUND, "There is no such camera.")
        if not RECIPE.fullmatch(recipe):
            abort(HTTPStatus.BAD_REQUEST, f"A recipe's name has {NAME_RULE}.")
        try:
            return TeachingFolder.of(self._settings, recipe)
        except InvalidNameError as error:
            abort(HTTPStatus.BAD_REQUEST, f"{error}.")

    def is_taught(self, recipe: str) -> bool:
        """Whether a teaching or a count of the recipe works."""
        running = self._jobs.running
        return running is not None and running.job.recipe == recipe

    def refuse_while_taught(self, recipe: str) -> None:
        """A training that reads the images must not find others."""
        if self.is_taught(recipe):
            abort(
                HTTPStatus.CONFLICT,
                f"Recipe {recipe} is being taught from these images: wait until that ends, or cancel it.",
            )

    def refuse_while_collecting(self, recipe: str) -> None:
        """A training must not find more images while it reads them."""
        if self.is_collecting(recipe):
            abort(HTTPStatus.CONFLICT, "Images are being collected: wait until that ends, or stop it.")

    def is_collecting(self, recipe: str) -> bool:
        """Whether images are being collected for the recipe."""
        last = self._collections.last
        return last is not None and last.recipe == recipe and last.state is CollectionState.WORKING

    @contextmanager
    def recording(self, recipe: str, what: str) -> Iterator[None]:
        """Records what a person does, then runs the block that does it."""
        with (
            self.refusing(),
            self._changes.recording(Kind.TRAINING, f"recipe.{recipe}.teaching", None, what),
        ):
            yield

    @staticmethod
    @contextmanager
    def refusing() -> Iterator[None]:
        """Ends the request with one line where the block raises an expected error."""
        try:
            yield
        except LineMonitorError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")

    @staticmethod
    def go_back(camera: str, recipe: str, step: str, *, moved: int | None = None) -> AnyResponse:
        """To the page again, at that step; it says how many good parts became known defects."""
        address = url_for("teach_recipe", camera=camera, recipe=recipe, _anchor=step, moved=moved)
        return redirect(address, HTTPStatus.SEE_OTHER)
