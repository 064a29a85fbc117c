"""Which recipe judges each camera's parts: at the start of the scoring worker, and after a changeover.

A recipe that was asked for is loaded and warmed up beside the one in force, written down as the one to go
on with, and put in force between two frames; one that can't be is refused with the reason, and the old one
stays. A request that its scoring worker died over is refused by the next one: loaded again it could end
that one too. Must never leave a camera with a recipe of another region of its picture.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from monitor import paths
from monitor.errors import LineMonitorError
from monitor.inference.scorer import Scorer
from monitor.line_state import changeover
from monitor.line_state.board import Board
from monitor.line_state.changeover import Judged, Kept, Request, Standing, State
from monitor.model.recipe_document import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.scoring.recipe_loader import Loader
from monitor.settings import CameraSettings, Settings
from monitor.system import out_of_memory
from monitor.verdict import rfc3339

_DIED = "the scoring worker died while it was being loaded: look at the log, then ask again"


def objection(camera: CameraSettings, recipe: RecipeVersion, name: str) -> str | None:
    """Why that recipe can't judge the camera's parts, in one line with the fix; None when it can.

    A recipe without a region is taken: its images may have been cut before training.
    """
    trained = recipe.roi
    if trained is None or tuple(trained) == camera.roi:
        return None
    has = f"roi {list(camera.roi)}" if camera.roi else "no roi"
    return (
        f"camera {camera.name!r} has {has}, but recipe {name!r} was trained on roi {list(trained)}: "
        "set that roi, or train a recipe for this one"
    )


class RecipesInForce:
    """Every camera's scorer, and its standing on the board. `utc_ns` is the clock, in nanoseconds."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        session: str,
        log: logging.Logger,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Loads what every camera is to start with, which takes seconds."""
        self._settings, self._board, self._session = settings, board, session
        self._log, self._utc_ns = log, utc_ns
        self._folder = paths.changeovers(settings)
        self._scorers: dict[str, Scorer] = {}
        self._standings: dict[str, Standing] = {}
        self.alone = threading.Lock()
        """Held by who scores: a network that is being built now and then needs that no other one runs."""
        self._loader = Loader()
        self._loading: tuple[CameraSettings, Request] | None = None
        self.troubles: dict[str, str] = {}
        """By camera, why its parts can't be judged, in one line."""
        loaded: dict[str, Scorer | LineMonitorError] = {}
        for camera in settings.camera:
            self._start(camera, loaded)

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        """By camera, for those whose parts can be judged. Cameras with the same recipe share one."""
        return self._scorers

    def name(self, camera: str) -> str:
        """The recipe in force there, or the one that should be."""
        standing = self._standings[camera]
        return standing.in_force.recipe if standing.in_force else standing.recipe

    def step(self) -> str | None:
        """Moves a changeover on, without waiting. Returns the camera that has another scorer now, or None."""
        if self._loading is None:
            self._take_up()
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

    # At the start

    def _start(self, camera: CameraSettings, loaded: dict[str, Scorer | LineMonitorError]) -> None:
        name, kept = camera.recipe, None
        scorer: Scorer | None = None
        why: str | None = None
        try:
            kept = self._kept(camera)
            name = kept.recipe if kept else camera.recipe
            scorer = self._first(name, loaded)
            why = objection(camera, scorer.recipe, name)
        except LineMonitorError as error:
            why = str(error)
        if scorer is not None and why is None:
            self._scorers[camera.name] = scorer
            self._doubt(camera, scorer.recipe, name)
        elif why is not None:
            self._trouble(camera, why)
        self._stand_at_start(camera, name, kept, why)

    def _kept(self, camera: CameraSettings) -> Kept | None:
        """What was put in force over MQTT; forgotten where the settings were changed since."""
        kept = changeover.kept(self._folder, camera)
        if kept is None:
            try:
                if changeover.forget(self._folder, camera.name):
                    self._log.info(
                        "camera %s: recipe %s, as the settings have been changed to",
                        camera.name,
                        camera.recipe,
                    )
            except OSError as error:
                raise RecipeError(
                    f"{self._folder}: the changeover before the settings were changed can't be removed: "
                    f"{error.strerror}"
                ) from None
        return kept

    def _first(self, name: str, loaded: dict[str, Scorer | LineMonitorError]) -> Scorer:
        if name not in loaded:
            try:
                loaded[name] = self._load(name, {})
            except LineMonitorError as error:
                loaded[name] = error
        found = loaded[name]
        if isinstance(found, LineMonitorError):
            raise found
        return found

    def _stand_at_start(self, camera: CameraSettings, name: str, kept: Kept | None, why: str | None) -> None:
        """Says what is in force now; where a predecessor died over a request, that it is refused, unless it
        had got as far as writing it down."""
        before = changeover.stands(self._board, camera.name)
        number = before.number if before else 0
        scorer = self._scorers.get(camera.name)
        in_force = Judged(name, scorer.recipe.sha) if scorer else None
        judged = changeover.succeeded(before, in_force) if in_force else before.judged if before else ()
        finished = kept is not None and (kept.session, kept.number) == (self._session, number)
        if before is not None and before.state is State.LOADING and not finished:
            standing = Standing(
                number, before.request_id, State.REFUSED, before.recipe, _DIED, in_force, judged
            )
            self._log.error("camera %s: recipe %s refused: %s", camera.name, before.recipe, _DIED)
        elif before is not None and before.state is State.REFUSED and before.number:
            # Nobody may have heard the answer yet.
            standing = Standing(
                number, before.request_id, State.REFUSED, before.recipe, before.reason, in_force, judged
            )
        else:
            state = State.IN_FORCE if in_force else State.REFUSED
            reason = changeover.shortened(why) if why else None
            request_id = kept.request_id if kept else None
            standing = Standing(number, request_id, state, name, reason, in_force, judged)
        self._stand(camera, standing)

    # Changeover

    def _take_up(self) -> None:
        for camera in self._settings.camera:
            request = changeover.asked(self._board, camera.name)
            if request is not None and request.number > self._standings[camera.name].number:
                self._begin(camera, request)
                return

    def _begin(self, camera: CameraSettings, request: Request) -> None:
        before = self._standings[camera.name]
        self._loading = camera, request
        # First of all: should this process die over it, its successor must know.
        self._stand(
            camera,
            Standing(
                request.number,
                request.request_id,
                State.LOADING,
                request.recipe,
                None,
                before.in_force,
                before.judged,
            ),
        )
        self._log.info("camera %s: loading recipe %s", camera.name, request.recipe)
        shared = {scorer.recipe.sha: scorer for scorer in self._scorers.values()}
        self._loader.begin(lambda: self._prepare(camera, request, shared))

    def _prepare(self, camera: CameraSettings, request: Request, shared: Mapping[str, Scorer]) -> Scorer:
        """On the loader's thread: all that can fail. Raises RecipeError."""
        scorer = self._load(request.recipe, shared)
        if why := objection(camera, scorer.recipe, request.recipe):
            raise RecipeError(why)
        kept = Kept(
            recipe=request.recipe,
            instead_of=camera.recipe,
            request_id=request.request_id,
            session=self._session,
            number=request.number,
            utc=rfc3339(self._utc_ns()),
        )
        try:
            changeover.keep(self._folder, camera.name, kept)
        except OSError as error:
            raise RecipeError(
                f"{self._folder}: can't write down that recipe {request.recipe!r} is in force: "
                f"{error.strerror}: a restart would bring the old one back; free some space there"
            ) from None
        return scorer

    def _load(self, name: str, shared: Mapping[str, Scorer]) -> Scorer:
        """A warm scorer of the version that is committed now. Raises RecipeError."""
        scoring = self._settings.scoring
        try:
            recipe = RecipeVersion.load(paths.recipe(self._settings, name))
            if recipe.sha in shared:
                return shared[recipe.sha]
            scorer = Scorer(
                recipe,
                device=scoring.device,
                runtime=scoring.runtime,
                precision=scoring.precision,
                network_lock=self.alone,
            )
            scorer.warm_up()
        except (MemoryError, RuntimeError) as error:
            fix = out_of_memory.advice(error, sized=False)
            if fix is None:
                raise
            raise RecipeError(f"recipe {name!r}: {fix}") from None
        return scorer

    def _put_in_force(self, camera: CameraSettings, request: Request, scorer: Scorer) -> None:
        self._scorers[camera.name] = scorer
        self.troubles.pop(camera.name, None)
        judged = Judged(request.recipe, scorer.recipe.sha)
        self._stand(
            camera,
            Standing(
                request.number,
                request.request_id,
                State.IN_FORCE,
                request.recipe,
                None,
                judged,
                changeover.succeeded(self._standings[camera.name], judged),
            ),
        )
        self._log.info(
            "camera %s: recipe %s (%s) is in force on %s",
            camera.name,
            request.recipe,
            scorer.recipe.sha[:16],
            scorer.calibration_key,
        )
        self._doubt(camera, scorer.recipe, request.recipe)

    def _refuse(self, camera: CameraSettings, request: Request, why: str) -> None:
        before = self._standings[camera.name]
        self._stand(
            camera,
            Standing(
                request.number,
                request.request_id,
                State.REFUSED,
                request.recipe,
                changeover.shortened(why),
                before.in_force,
                before.judged,
            ),
        )
        self._log.error("camera %s: recipe %s refused: %s", camera.name, request.recipe, why)

    def _stand(self, camera: CameraSettings, standing: Standing) -> None:
        self._standings[camera.name] = standing
        changeover.stand(self._board, camera.name, standing)

    def _doubt(self, camera: CameraSettings, recipe: RecipeVersion, name: str) -> None:
        if camera.roi and not recipe.roi:
            self._log.warning(
                "camera %s has roi %s, and recipe %s does not say that it was trained on one",
                camera.name,
                list(camera.roi),
                name,
            )

    def _trouble(self, camera: CameraSettings, why: str) -> None:
        if why not in self.troubles.values():
            self._log.error("%s", why)
        self.troubles[camera.name] = why
