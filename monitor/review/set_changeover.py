"""Changes all cameras of a set over at once: the checks, the record, the request to the line.

It knows nothing of HTTP. A running line loads all recipes of the set and then puts all of them in force or
none. Where no line runs, the set is in force from its next start on.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from monitor import paths
from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.signature import Signature
from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.errors import LineMonitorError
from monitor.line_state.changeover import put_set_in_force
from monitor.line_state.recipe_set import REQUEST_FILE, SetDocument, write_set
from monitor.model.camera_region import find_region_conflict
from monitor.model.in_force import find_promoted
from monitor.model.recipe_version import RecipeVersion
from monitor.settings import Settings
from monitor.verdict import rfc3339


def state_set(name: str) -> str:
    """What the signature under a changeover to a set states."""
    return f"changeover to set {name}"


class SetChangeoverError(LineMonitorError):
    """No camera was changed over. The message is one line with the fix."""


class SetChangeover:
    """The sets of one line's settings. `utc_ns` is the clock."""

    def __init__(
        self, settings: Settings, trail: AuditTrail, utc_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._settings, self._trail, self._utc_ns = settings, trail, utc_ns

    def check(self, name: str) -> None:
        """Raises SetChangeoverError unless each recipe of the set is promoted, whole and of its camera's
        region."""
        recipes = paths.recipes(self._settings)
        is_signed = AccountsFile.of(self._settings).exist()
        cameras = {camera.name: camera for camera in self._settings.camera}
        for camera, asked in self._recipes(name).items():
            if camera not in cameras:
                raise SetChangeoverError(f"set {name}: the settings have no camera {camera!r}")
            try:
                version = RecipeVersion.load(find_promoted(recipes, asked, is_signed=is_signed).file)
            except LineMonitorError as error:
                raise SetChangeoverError(f"set {name}: {error}") from None
            if why := find_region_conflict(cameras[camera], version, asked):
                raise SetChangeoverError(f"set {name}: {why}")

    def use(self, name: str, signature: Signature, via: str, *, is_running: bool) -> SetDocument:
        """Asks a running line to change over, or puts the set in force for the next start.

        Raises AuditError, SetChangeoverError and ChangeoverError.
        """
        recipes, utc = self._recipes(name), rfc3339(self._utc_ns())
        document = SetDocument(
            name=name,
            recipes=recipes,
            instead_of={
                camera.name: camera.recipe for camera in self._settings.camera if camera.name in recipes
            },
            request_id=f"set-{uuid.uuid4().hex}",
            who=signature.name,
            utc=utc,
        )
        asked = ", ".join(f"{camera} {recipe}" for camera, recipe in recipes.items())
        change = Change(
            Kind.CHANGEOVER,
            signature.name,
            f"recipe_set.{name}",
            None,
            asked,
            signature.statement,
            utc,
            via=via,
            signed=signature.is_proven,
        )
        folder = paths.changeovers(self._settings)
        with self._trail.recording(change, lambda: rfc3339(self._utc_ns())):
            try:
                if is_running:
                    write_set(folder / REQUEST_FILE, document)
                else:
                    put_set_in_force(folder, self._settings.camera, document)
            except OSError as error:
                raise SetChangeoverError(f"{folder} can't be written: {error.strerror}") from None
        return document

    def _recipes(self, name: str) -> dict[str, str]:
        try:
            return dict(self._settings.recipes.sets[name])
        except KeyError:
            known = ", ".join(self._settings.recipes.sets) or "none"
            raise SetChangeoverError(f"the settings have no set {name!r}; there are: {known}") from None
