"""Which version of which recipe judges each camera's parts: at the start, and after a change.

It knows nothing of frames or MQTT: requests and answers lie on the board (`monitor.line_state.changeover`).
There are three changes: a changeover gives one camera another recipe; a set gives several cameras theirs at
once, or none; a version that a person puts in force (`monitor.model.in_force`) replaces the recipe's version
at all cameras that were not changed over to a version by its number.

All run beside the scoring loop. The requested recipe is loaded and warmed up, after a changeover written to
disk as the one to start with, then put in force between two frames. A recipe that can't judge the camera's
parts is refused with the reason, and the old one stays in force; so a camera never has a recipe that was
trained on another region of its image. If the scoring worker dies while it loads a recipe, its successor
refuses the request, since a second attempt could end the successor too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from monitor import paths
from monitor.errors import LineMonitorError
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
from monitor.line_state.recipe_set import SET_FILE, RecipeSetError, SetDocument, read_set
from monitor.line_state.set_request import (
    SetRequest,
    SetStatus,
    make_document_id,
    read_set_request,
    read_set_status,
    write_set_status,
)
from monitor.model.camera_region import find_region_conflict, unchecked_region
from monitor.model.in_force import InForce
from monitor.model.recipe_version import RecipeVersion
from monitor.names import join_version, split_version
from monitor.scoring.in_force_watch import InForceWatch
from monitor.scoring.recipe_loader import Loaded, RecipeLoader
from monitor.scoring.recipe_preparation import Load, PromotedLoad, RecipePreparation, RequestedLoad, SetLoad
from monitor.settings import CameraSettings, Settings

_LONGEST_NAME = 128
"""In bytes of UTF-8: what of a person's name or of a topic fits on the board."""
_SET_DIED = "the scoring worker died while it loaded this set: look at the log, then ask again"
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
        self._log = log
        self._folder = paths.changeovers(settings)
        self._scorers: dict[str, Scorer] = {}
        self._status: dict[str, RecipeStatus] = {}
        self.network_lock = threading.Lock()
        """The scoring loop holds it while it scores frames. The thread that loads a recipe holds it during
        the steps in which no other network may run."""
        self._preparation = RecipePreparation(settings, session, log, self.network_lock, utc_ns)
        self._loader = RecipeLoader()
        self._loading: Load | None = None
        self.watch = InForceWatch(paths.recipes(settings), self._folder, log)
        self._asked: dict[str, str] = {}
        """By camera, its recipe as `NAME`, or as `NAME@VERSION` after a changeover to that version."""
        self._refused: dict[str, InForce] = {}
        """By recipe, the version put in force that could not be loaded."""
        self.troubles: dict[str, str] = {}
        """By camera, why its parts can't be judged, in one line."""
        loaded: dict[str, Scorer | LineMonitorError] = {}
        for camera in settings.camera:
            self._start(camera, loaded)
        self._follow()
        self.watch.look()
        # A request from before this start was answered, or the worker died on it: a second attempt could end
        # this one too.
        self._answered_set = self.watch.set_request
        self._set_status = self._answer_set_at_start()

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        """By camera, for the cameras whose parts can be judged. Cameras with the same recipe share one."""
        return self._scorers

    def name(self, camera: str) -> str:
        """The name of the recipe in force; without one, of the recipe that could not be put in force."""
        status = self._status[camera]
        return status.in_force.recipe if status.in_force else status.recipe

    @property
    def is_changing(self) -> bool:
        """Whether a recipe is being loaded, which `step` takes over."""
        return self._loading is not None

    def step(self) -> Sequence[str]:
        """Advance a change without waiting. Return the cameras whose scorer has been replaced."""
        if self._loading is None:
            self._begin_next()
            return ()
        outcome = self._loader.take()
        if outcome is None:
            return ()
        loading, self._loading = self._loading, None
        if isinstance(loading, PromotedLoad):
            return self._end_promoted(loading, outcome)
        if isinstance(loading, SetLoad):
            return self._end_set(loading, outcome)
        assert loading is not None
        if isinstance(outcome, LineMonitorError):
            self._refuse(loading.camera, loading.request, str(outcome))
            return ()
        self._put_in_force(loading.camera, loading.request, outcome[loading.camera.name])
        return (loading.camera.name,)

    # At the start of the scoring worker

    def _start(self, camera: CameraSettings, loaded: dict[str, Scorer | LineMonitorError]) -> None:
        """Put the camera's first recipe in force. `loaded` holds the recipes loaded so far, by name."""
        name, kept = camera.recipe, None
        scorer: Scorer | None = None
        trouble: str | None = None
        try:
            kept = self._preparation.find_last_changeover(camera)
            name = kept.asked if kept else camera.recipe
            scorer = self._preparation.load_first(name, loaded)
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
        self._asked[camera.name] = name
        self._answer_at_start(camera, name, kept, trouble)

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
        present = _identify(name, scorer) if scorer else None
        judged = changeover.add_recent_recipe(before, present) if present else before.judged if before else ()
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
            state = ChangeoverState.IN_FORCE if present else ChangeoverState.REFUSED
            answer = request_id, state, name, changeover.shorten_reason(trouble) if trouble else None
        self._write_status(camera, RecipeStatus(number, *answer, present, judged))

    def _answer_set_at_start(self) -> SetStatus:
        """Write what became of the last set that was asked for; at a start of the line, the set in force.

        If the scoring worker before this one died while it loaded the requested set, the request is refused,
        unless the set had already been renamed into place.
        """
        before = read_set_status(self._board)
        if before is not None and before.state is not ChangeoverState.LOADING:
            return before
        try:
            present = read_set(self._folder / SET_FILE)
        except RecipeSetError as error:
            # Each camera is without a recipe by now, for the same reason.
            present, why = None, str(error)
        else:
            why = _SET_DIED if before else ""
        if before is None:
            name = present.name if present else None
            before = SetStatus(0, None, ChangeoverState.IN_FORCE, name, None)
        elif present and present.request_id == make_document_id(self._session, before.number):
            before, why = msgspec.structs.replace(before, state=ChangeoverState.IN_FORCE), ""
        if why:
            reason = changeover.shorten_reason(why)
            before = msgspec.structs.replace(before, state=ChangeoverState.REFUSED, reason=reason)
        return self._write_set_status(before)

    def _write_set_status(self, status: SetStatus) -> SetStatus:
        self._set_status = status
        write_set_status(self._board, status)
        return status

    # A change

    def _follow(self) -> None:
        self.watch.follow(split_version(asked)[0] for asked in self._asked.values())

    def _begin_next(self) -> None:
        """Start to load the recipe of the first camera that has a new request; else the first version that
        was put in force."""
        for camera in self._settings.camera:
            request = changeover.read_request(self._board, camera.name)
            if request is not None and request.number > self._status[camera.name].number:
                self._begin(camera, request)
                return
        wanted_set = read_set_request(self._board)
        if wanted_set is not None and wanted_set.number > self._set_status.number:
            self._begin_set(self._preparation.make_set(wanted_set), wanted_set)
            return
        if (asked := self.watch.set_request) is not None and asked != self._answered_set:
            self._answered_set = asked
            self._begin_set(asked, None)
            return
        for name in dict.fromkeys(self._asked.values()):
            wanted = self.watch.find(name)
            # A version that nobody has signed for judges from a start of the line on, and replaces none.
            if wanted is None or not wanted.approval.is_signed or wanted == self._refused.get(name):
                continue
            if cameras := self._judged_by_others(name, wanted):
                self._begin_promoted(PromotedLoad(cameras, name, wanted))
                return

    def _begin_load(self, loading: Load) -> None:
        self._loading = loading
        shared = {scorer.recipe.sha: scorer for scorer in self._scorers.values()}
        self._loader.begin(lambda: self._preparation.prepare(loading, shared))

    def _judged_by_others(self, name: str, wanted: InForce) -> list[CameraSettings]:
        """The cameras of a recipe whose parts are not judged by the version that is in force."""
        found = []
        for camera in self._settings.camera:
            scorer = self._scorers.get(camera.name)
            sha = scorer.recipe.sha if scorer else None
            if self._asked[camera.name] == name and sha != wanted.recipe_sha:
                found.append(camera)
        return found

    def _begin_promoted(self, loading: PromotedLoad) -> None:
        version = join_version(loading.recipe, loading.document.version)
        self._log.info("loading %s: %s has put it in force", version, loading.document.approval.who)
        self._begin_load(loading)

    def _end_promoted(self, loading: PromotedLoad, outcome: Loaded | LineMonitorError) -> Sequence[str]:
        """Put the version in force at all cameras of its recipe, or refuse it. Return the changed cameras."""
        recipe, document = loading.recipe, loading.document
        version, why = join_version(recipe, document.version), None
        if isinstance(outcome, LineMonitorError):
            why = str(outcome)
            self._refused[recipe] = document
            self._log.error("%s is to be in force, but can't be used: %s", version, why)
        elif any(scorer.recipe.sha != document.recipe_sha for scorer in outcome.values()):
            # Another version was put in force meanwhile: the watch has read it or will.
            return ()
        for camera in loading.cameras:
            before = self._status[camera.name]
            present, state, judged = before.in_force, ChangeoverState.REFUSED, before.judged
            if not isinstance(outcome, LineMonitorError):
                state = ChangeoverState.IN_FORCE
                present, judged = self._take_over(camera, recipe, outcome[camera.name])
            reason = changeover.shorten_reason(why) if why else None
            who = document.approval.who
            self._write_status(
                camera, RecipeStatus(before.number, None, state, version, reason, present, judged, who)
            )
        return [camera.name for camera in loading.cameras] if why is None else ()

    def _begin_set(self, document: SetDocument, request: SetRequest | None) -> None:
        if request is not None:
            # Written before the load begins, as for one camera.
            self._write_set_status(
                SetStatus(request.number, request.request_id, ChangeoverState.LOADING, document.name, None)
            )
        cameras = [camera for camera in self._settings.camera if camera.name in document.recipes]
        self._log.info("loading the recipes of set %s for %s", document.name, document.who)
        self._begin_load(SetLoad(cameras, document, request))

    def _end_set(self, loading: SetLoad, outcome: Loaded | LineMonitorError) -> Sequence[str]:
        """Put all recipes of the set in force, or refuse all. Return the changed cameras."""
        document, why = loading.document, None
        if isinstance(outcome, LineMonitorError):
            self._log.error("set %s refused, no camera is changed: %s", document.name, outcome)
            why = changeover.shorten_reason(f"set {document.name}: {outcome}")
        state = ChangeoverState.REFUSED if why else ChangeoverState.IN_FORCE
        for camera in loading.cameras:
            before, asked = self._status[camera.name], document.recipes[camera.name]
            present, judged = before.in_force, before.judged
            if not isinstance(outcome, LineMonitorError):
                self._asked[camera.name] = asked
                present, judged = self._take_over(camera, asked, outcome[camera.name])
            answer = document.request_id, state, asked, why, present, judged, document.who
            self._write_status(camera, RecipeStatus(before.number, *answer))
        self._follow()
        request_id = loading.request.request_id if loading.request else document.request_id
        self._write_set_status(SetStatus(self._set_status.number, request_id, state, document.name, why))
        return () if isinstance(outcome, LineMonitorError) else [camera.name for camera in loading.cameras]

    def _begin(self, camera: CameraSettings, request: Request) -> None:
        before = self._status[camera.name]
        # Written before the load begins: if this process dies meanwhile, its successor refuses the request.
        self._answer(camera, request, ChangeoverState.LOADING, None, before.in_force, before.judged)
        self._log.info("camera %s: loading recipe %s", camera.name, request.recipe)
        self._begin_load(RequestedLoad(camera, request))

    def _put_in_force(self, camera: CameraSettings, request: Request, scorer: Scorer) -> None:
        self._asked[camera.name] = request.recipe
        self._follow()
        present, judged = self._take_over(camera, request.recipe, scorer)
        self._answer(camera, request, ChangeoverState.IN_FORCE, None, present, judged)

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
        present: RecipeIdentity | None,
        judged: tuple[RecipeIdentity, ...],
    ) -> None:
        self._write_status(
            camera,
            RecipeStatus(request.number, request.request_id, state, request.recipe, reason, present, judged),
        )

    def _take_over(
        self, camera: CameraSettings, asked: str, scorer: Scorer
    ) -> tuple[RecipeIdentity, tuple[RecipeIdentity, ...]]:
        """Judge the camera's next part by this scorer. Return the recipe in force and the last ones."""
        present = _identify(asked, scorer)
        name = present.recipe
        self._scorers[camera.name] = scorer
        self.troubles.pop(camera.name, None)
        self._log.info(
            "camera %s: recipe %s (%s) is in force on %s",
            camera.name,
            join_version(name, scorer.recipe.number),
            scorer.recipe.sha[:16],
            scorer.calibration_key,
        )
        self._warn_of_missing_roi(camera, scorer.recipe, name)
        return present, changeover.add_recent_recipe(self._status[camera.name], present)

    # At the start and in a change

    def _write_status(self, camera: CameraSettings, status: RecipeStatus) -> None:
        status = msgspec.structs.replace(
            status,
            is_pinned="@" in self._asked[camera.name],
            who=status.who.encode()[:_LONGEST_NAME].decode(errors="ignore"),
        )
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


def _identify(asked: str, scorer: Scorer) -> RecipeIdentity:
    return RecipeIdentity(split_version(asked)[0], scorer.recipe.sha, scorer.recipe.number)
