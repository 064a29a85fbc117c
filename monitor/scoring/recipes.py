"""Which recipe judges each camera's parts: at the start of the scoring worker, and after a changeover.

It knows nothing of frames or MQTT: requests and answers lie on the board (`monitor.line_state.changeover`).

A changeover runs beside the scoring loop. The requested recipe is loaded and warmed up, then written to
disk as the one to start with, then put in force between two frames. A recipe that can't judge the camera's
parts is refused with the reason, and the old one stays in force; so a camera never has a recipe that was
trained on another region of its image. If the scoring worker dies while it loads a recipe, its successor
refuses the request, since a second attempt could end the successor too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from monitor import paths
from monitor.errors import LineMonitorError
from monitor.inference.backend_choice import BackendWish, build_fastest_scorer
from monitor.inference.scorer import Scorer
from monitor.line_state import changeover
from monitor.line_state.board import Board
from monitor.line_state.changeover import (
    ChangeoverDocument,
    ChangeoverState,
    RecipeIdentity,
    RecipeStatus,
    Request,
)
from monitor.model.camera_region import find_region_conflict, unchecked_region
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.scoring.recipe_loader import RecipeLoader
from monitor.settings import CameraSettings, Settings
from monitor.system import out_of_memory
from monitor.verdict import rfc3339

_DIED = "the scoring worker died while it loaded this recipe: look at the log, then ask again"


class RecipesInForce:
    """Every camera's scorer. Each change is written to the board. `utc_ns` is the clock, in nanoseconds."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        session: str,
        log: logging.Logger,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Load every camera's first recipe, which takes seconds."""
        self._settings, self._board, self._session = settings, board, session
        self._log, self._utc_ns = log, utc_ns
        self._folder = paths.changeovers(settings)
        self._scorers: dict[str, Scorer] = {}
        self._status: dict[str, RecipeStatus] = {}
        self.network_lock = threading.Lock()
        """The scoring loop holds it while it scores frames. The thread that loads a recipe holds it during
        the steps in which no other network may run."""
        self._loader = RecipeLoader()
        self._loading: tuple[CameraSettings, Request] | None = None
        self.troubles: dict[str, str] = {}
        """By camera, why its parts can't be judged, in one line."""
        loaded: dict[str, Scorer | LineMonitorError] = {}
        for camera in settings.camera:
            self._start(camera, loaded)

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        """By camera, for the cameras whose parts can be judged. Cameras with the same recipe share one."""
        return self._scorers

    def name(self, camera: str) -> str:
        """The name of the recipe in force; without one, of the recipe that could not be put in force."""
        status = self._status[camera]
        return status.in_force.recipe if status.in_force else status.recipe

    def step(self) -> str | None:
        """Advance a changeover without waiting. Return the camera whose scorer has been replaced, or None."""
        if self._loading is None:
            self._begin_next()
            return None
        outcome = self._loader.take()
        if outcome is None:
            return None
        (camera, request), self._loading = self._loading, None
        if isinstance(outcome, Scorer):
            self._put_in_force(camera, request, outcome)
            return camera.name
        self._refuse(camera, request, str(outcome))
        return None

    # At the start of the scoring worker

    def _start(self, camera: CameraSettings, loaded: dict[str, Scorer | LineMonitorError]) -> None:
        """Put the camera's first recipe in force. `loaded` holds the recipes loaded so far, by name."""
        name, kept = camera.recipe, None
        scorer: Scorer | None = None
        trouble: str | None = None
        try:
            kept = self._last_changeover(camera)
            name = kept.recipe if kept else camera.recipe
            scorer = self._load_once(name, loaded)
            trouble = find_region_conflict(camera, scorer.recipe, name)
        except LineMonitorError as error:
            trouble = str(error)
        if trouble is not None:
            if trouble not in self.troubles.values():
                self._log.error("%s", trouble)
            self.troubles[camera.name] = trouble
        elif scorer is not None:
            self._scorers[camera.name] = scorer
            self._warn_of_missing_roi(camera, scorer.recipe, name)
        self._answer_at_start(camera, name, kept, trouble)

    def _last_changeover(self, camera: CameraSettings) -> ChangeoverDocument | None:
        """The last changeover over MQTT. Its file is deleted where the camera's recipe in the settings has
        been changed since. Raises LineMonitorError."""
        kept = changeover.load_changeover(self._folder, camera)
        if kept is None:
            try:
                if changeover.delete_changeover(self._folder, camera.name):
                    self._log.info(
                        "camera %s: the settings have been changed: recipe %s replaces the last changeover",
                        camera.name,
                        camera.recipe,
                    )
            except OSError as error:
                raise RecipeError(
                    f"{self._folder}: the settings have been changed, but the last changeover can't be "
                    f"removed: {error.strerror}: let the service's user write there"
                ) from None
        return kept

    def _load_once(self, name: str, loaded: dict[str, Scorer | LineMonitorError]) -> Scorer:
        """Load a recipe that several cameras may share. Raises LineMonitorError, again for each camera."""
        if name not in loaded:
            try:
                loaded[name] = self._load(name, {})
            except LineMonitorError as error:
                loaded[name] = error
        found = loaded[name]
        if isinstance(found, LineMonitorError):
            raise found
        return found

    def _answer_at_start(
        self, camera: CameraSettings, name: str, kept: ChangeoverDocument | None, trouble: str | None
    ) -> None:
        """Write the recipe in force to the board, with the answer to the last request.

        If the scoring worker before this one died while it loaded the requested recipe, the request is
        refused, unless the recipe had already been written to disk as the one to start with.
        """
        before = changeover.read_recipe_status(self._board, camera.name)
        number = before.number if before else 0
        scorer = self._scorers.get(camera.name)
        in_force = RecipeIdentity(name, scorer.recipe.sha) if scorer else None
        judged = (
            changeover.add_recent_recipe(before, in_force) if in_force else before.judged if before else ()
        )
        finished = kept is not None and (kept.session, kept.number) == (self._session, number)
        answer: tuple[changeover.RequestId | None, ChangeoverState, str, str | None]
        if before is not None and before.state is ChangeoverState.LOADING and not finished:
            answer = before.request_id, ChangeoverState.REFUSED, before.recipe, _DIED
            self._log.error("camera %s: recipe %s refused: %s", camera.name, before.recipe, _DIED)
        elif before is not None and before.state is ChangeoverState.REFUSED and before.number:
            # The publisher may not have sent this answer yet.
            answer = before.request_id, ChangeoverState.REFUSED, before.recipe, before.reason
        else:
            request_id = kept.request_id if kept else None
            state = ChangeoverState.IN_FORCE if in_force else ChangeoverState.REFUSED
            answer = request_id, state, name, changeover.shorten_reason(trouble) if trouble else None
        self._write_status(camera, RecipeStatus(number, *answer, in_force, judged))

    # A changeover

    def _begin_next(self) -> None:
        """Start to load the recipe of the first camera that has a new request."""
        for camera in self._settings.camera:
            request = changeover.read_request(self._board, camera.name)
            if request is not None and request.number > self._status[camera.name].number:
                self._begin(camera, request)
                return

    def _begin(self, camera: CameraSettings, request: Request) -> None:
        before = self._status[camera.name]
        self._loading = camera, request
        # Written before the load begins: if this process dies meanwhile, its successor refuses the request.
        self._answer(camera, request, ChangeoverState.LOADING, None, before.in_force, before.judged)
        self._log.info("camera %s: loading recipe %s", camera.name, request.recipe)
        shared = {scorer.recipe.sha: scorer for scorer in self._scorers.values()}
        self._loader.begin(lambda: self._prepare(camera, request, shared))

    def _prepare(self, camera: CameraSettings, request: Request, shared: Mapping[str, Scorer]) -> Scorer:
        """All steps that can fail, on the loader's thread. Raises RecipeError."""
        scorer = self._load(request.recipe, shared)
        if why := find_region_conflict(camera, scorer.recipe, request.recipe):
            raise RecipeError(why)
        kept = ChangeoverDocument(
            recipe=request.recipe,
            instead_of=camera.recipe,
            request_id=request.request_id,
            session=self._session,
            number=request.number,
            utc=rfc3339(self._utc_ns()),
        )
        try:
            changeover.save_changeover(self._folder, camera.name, kept)
        except OSError as error:
            raise RecipeError(
                f"{self._folder}: can't write down that recipe {request.recipe!r} is in force: "
                f"{error.strerror}: a restart would bring the old one back; free some space there"
            ) from None
        return scorer

    def _load(self, name: str, shared: Mapping[str, Scorer]) -> Scorer:
        """Return a warm scorer of the recipe's committed version; `shared` holds scorers by sha.

        Raises RecipeError.
        """
        scoring = self._settings.scoring
        try:
            recipe = RecipeVersion.load(paths.recipe(self._settings, name))
            if recipe.sha in shared:
                return shared[recipe.sha]
            scorer = build_fastest_scorer(
                recipe,
                BackendWish(scoring.device, scoring.runtime, scoring.precision),
                paths.line_cache(self._settings),
                network_lock=self.network_lock,
                say=self._log.info,
            )
            scorer.warm_up()
        except (MemoryError, RuntimeError) as error:
            fix = out_of_memory.explain_memory_error(error, sized=False)
            if fix is None:
                raise
            raise RecipeError(f"recipe {name!r}: {fix}") from None
        return scorer

    def _put_in_force(self, camera: CameraSettings, request: Request, scorer: Scorer) -> None:
        self._scorers[camera.name] = scorer
        self.troubles.pop(camera.name, None)
        in_force = RecipeIdentity(request.recipe, scorer.recipe.sha)
        judged = changeover.add_recent_recipe(self._status[camera.name], in_force)
        self._answer(camera, request, ChangeoverState.IN_FORCE, None, in_force, judged)
        self._log.info(
            "camera %s: recipe %s (%s) is in force on %s",
            camera.name,
            request.recipe,
            scorer.recipe.sha[:16],
            scorer.calibration_key,
        )
        self._warn_of_missing_roi(camera, scorer.recipe, request.recipe)

    def _refuse(self, camera: CameraSettings, request: Request, why: str) -> None:
        before = self._status[camera.name]
        reason = changeover.shorten_reason(why)
        self._answer(camera, request, ChangeoverState.REFUSED, reason, before.in_force, before.judged)
        self._log.error("camera %s: recipe %s refused: %s", camera.name, request.recipe, why)

    def _answer(
        self,
        camera: CameraSettings,
        request: Request,
        state: ChangeoverState,
        reason: str | None,
        in_force: RecipeIdentity | None,
        judged: tuple[RecipeIdentity, ...],
    ) -> None:
        self._write_status(
            camera,
            RecipeStatus(request.number, request.request_id, state, request.recipe, reason, in_force, judged),
        )

    # At the start and in a changeover

    def _write_status(self, camera: CameraSettings, status: RecipeStatus) -> None:
        self._status[camera.name] = status
        changeover.write_recipe_status(self._board, camera.name, status)

    def _warn_of_missing_roi(self, camera: CameraSettings, recipe: RecipeVersion, name: str) -> None:
        if roi := unchecked_region(camera, recipe):
            self._log.warning(
                "camera %s has roi %s, but recipe %s holds no roi: make sure that it was trained on images "
                "of that region",
                camera.name,
                list(roi),
                name,
            )
