"""What can fail in a change of recipes: the version is found, loaded, warmed up and written down.

It knows nothing of the board or of what judges at present. At the start it runs on the scoring worker's main
thread, and in a change on the loader's, beside the scoring loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor import paths
from monitor.accounts.accounts_file import AccountsFile
from monitor.errors import LineMonitorError
from monitor.inference.backend_choice import BackendWish, build_fastest_scorer
from monitor.inference.scorer import Scorer
from monitor.line_state import changeover
from monitor.line_state.changeover import ChangeoverDocument, Request
from monitor.line_state.recipe_set import SetDocument
from monitor.line_state.set_request import SetRequest, make_document_id
from monitor.model import in_force
from monitor.model.camera_region import find_region_conflict
from monitor.model.in_force import InForce
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.model.version_files import VersionFile
from monitor.names import split_version
from monitor.scoring.recipe_loader import Loaded
from monitor.settings import CameraSettings, Settings
from monitor.system import out_of_memory
from monitor.verdict import rfc3339


@dataclass(frozen=True, slots=True)
class RequestedLoad:
    """A recipe that is loaded because of a request for one camera."""

    camera: CameraSettings
    request: Request


@dataclass(frozen=True, slots=True)
class PromotedLoad:
    """A version that is loaded because a person has put it in force."""

    cameras: Sequence[CameraSettings]
    recipe: str
    document: InForce


@dataclass(frozen=True, slots=True)
class SetLoad:
    """The recipes of a set, which are put in force together or not at all."""

    cameras: Sequence[CameraSettings]
    document: SetDocument
    request: SetRequest | None
    """The request over MQTT; None where a person has asked on the page or the command line."""


Load = RequestedLoad | PromotedLoad | SetLoad
"""What is loaded, and why."""


class RecipePreparation:
    """Makes scorers of recipes for one line. `utc_ns` is the clock, in nanoseconds."""

    def __init__(
        self,
        settings: Settings,
        session: str,
        log: logging.Logger,
        network_lock: threading.Lock,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`network_lock` is held during the steps in which no other network may run."""
        self._settings, self._session, self._log = settings, session, log
        self._network_lock, self._utc_ns = network_lock, utc_ns
        self._folder = paths.changeovers(settings)

    # At the start

    def find_last_changeover(self, camera: CameraSettings) -> ChangeoverDocument | None:
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

    def load_first(self, name: str, loaded: dict[str, Scorer | LineMonitorError]) -> Scorer:
        """Load a recipe that several cameras may share. Raises LineMonitorError, again for each camera."""
        if name not in loaded:
            try:
                version = in_force.find_asked(paths.recipes(self._settings), name)
                loaded[name] = self._load(version.file, {}, is_start=True)
            except LineMonitorError as error:
                loaded[name] = error
        found = loaded[name]
        if isinstance(found, LineMonitorError):
            raise found
        return found

    # In a change

    def prepare(self, load: Load, shared: Mapping[str, Scorer]) -> Loaded:
        """The scorers of the load's cameras; `shared` holds scorers by sha. Raises RecipeError."""
        match load:
            case RequestedLoad():
                return self._prepare_requested(load, shared)
            case PromotedLoad():
                return self._prepare_promoted(load, shared)
            case SetLoad():
                return self._prepare_set(load, shared)

    def _prepare_requested(self, load: RequestedLoad, shared: Mapping[str, Scorer]) -> Loaded:
        camera, request = load.camera, load.request
        name, version = split_version(request.recipe)
        found = self._find_promoted(request.recipe)
        scorer = self._load(found.file, shared)
        if why := find_region_conflict(camera, scorer.recipe, name):
            raise RecipeError(why)
        kept = ChangeoverDocument(
            recipe=name,
            version=version,
            instead_of=camera.recipe,
            request_id=request.request_id,
            session=self._session,
            number=request.number,
            utc=rfc3339(self._utc_ns()),
            after_set=changeover.find_set_in_force(self._folder),
        )
        try:
            changeover.save_changeover(self._folder, camera.name, kept)
        except OSError as error:
            raise RecipeError(
                f"{self._folder}: can't write down that recipe {request.recipe!r} is in force: "
                f"{error.strerror}: a restart would bring the old one back; free some space there"
            ) from None
        return {camera.name: scorer}

    def _prepare_promoted(self, loading: PromotedLoad, shared: Mapping[str, Scorer]) -> Loaded:
        """A version that can't judge the parts of one of the cameras is refused for all of them."""
        found = in_force.find_in_force(paths.recipe(self._settings, loading.recipe))
        scorer = self._load(found.file, shared)
        for camera in loading.cameras:
            if why := find_region_conflict(camera, scorer.recipe, loading.recipe):
                raise RecipeError(why)
        return {camera.name: scorer for camera in loading.cameras}

    def _prepare_set(self, loading: SetLoad, shared: Mapping[str, Scorer]) -> Loaded:
        """No camera is changed where it raises an error.

        The last step renames the set into place: after a restart either all its cameras have it or none.
        """
        document = loading.document
        if not document.recipes:
            raise RecipeError("it names no camera: correct recipes.sets, then restart the line")
        if unknown := document.recipes.keys() - {camera.name for camera in loading.cameras}:
            raise RecipeError(
                f"the line has no camera {', '.join(sorted(unknown))}: restart it, or correct the set"
            )
        ready, loaded = dict(shared), {}
        for camera in loading.cameras:
            asked = document.recipes[camera.name]
            try:
                found = self._find_promoted(asked)
                scorer = self._load(found.file, ready)
            except LineMonitorError as error:
                raise RecipeError(f"camera {camera.name!r}: {error}") from None
            ready[scorer.recipe.sha] = scorer
            if why := find_region_conflict(camera, scorer.recipe, asked):
                raise RecipeError(why)
            loaded[camera.name] = scorer
        try:
            changeover.put_set_in_force(self._folder, self._settings.camera, document)
        except OSError as error:
            raise RecipeError(f"{self._folder}: the set can't be written down: {error.strerror}") from None
        return loaded

    def _find_promoted(self, asked: str) -> VersionFile:
        is_signed = AccountsFile.of(self._settings).exist()
        return in_force.find_promoted(paths.recipes(self._settings), asked, is_signed=is_signed)

    def make_set(self, request: SetRequest) -> SetDocument:
        """The set that a request over MQTT names. A set that the settings do not have is empty, and an empty
        set is refused."""
        recipes = dict(self._settings.recipes.sets.get(request.recipe_set, {}))
        cameras = {camera.name: camera.recipe for camera in self._settings.camera if camera.name in recipes}
        return SetDocument(
            name=request.recipe_set,
            recipes=recipes,
            instead_of=cameras,
            request_id=make_document_id(self._session, request.number),
            who=f"{self._settings.prefix}/recipe/set",
            utc=rfc3339(self._utc_ns()),
        )

    def _load(self, document: Path, shared: Mapping[str, Scorer], *, is_start: bool = False) -> Scorer:
        """Return a warm scorer of the version with this document; `shared` holds scorers by sha.

        Backends are measured only at the start: later the measurement would delay parts. Raises RecipeError.
        """
        scoring = self._settings.scoring
        try:
            recipe = RecipeVersion.load(document)
            if recipe.sha in shared:
                return shared[recipe.sha]
            scorer = build_fastest_scorer(
                recipe,
                BackendWish(scoring.device, scoring.runtime, scoring.precision),
                paths.line_cache(self._settings),
                network_lock=self._network_lock,
                say=self._log.info,
                measure=is_start,
            )
            scorer.warm_up()
        except (MemoryError, RuntimeError) as error:
            fix = out_of_memory.explain_memory_error(error, sized=False)
            if fix is None:
                raise
            raise RecipeError(f"{document}: {fix}") from None
        return scorer
