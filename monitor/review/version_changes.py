"""Puts versions of recipes in force: what it takes, the record, the file. For the page and the command line.

It knows nothing of HTTP. A change that can't be recorded is not made, nor is one to a version that the line
could not use: after a restart its cameras would be without a recipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from monitor import paths
from monitor.accounts.permissions import Permission
from monitor.accounts.signature import Signature
from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.errors import LineMonitorError
from monitor.line_state.changeover import find_recipe_to_load
from monitor.model import in_force
from monitor.model.camera_region import find_region_conflict
from monitor.model.in_force import Approval
from monitor.model.recipe_version import RecipeVersion
from monitor.model.version_files import VersionFile, find_version
from monitor.model.version_summary import read_document
from monitor.names import join_version
from monitor.settings import Settings
from monitor.verdict import rfc3339

APPROVED = "approved for production"
"""What the signature under a version that is promoted states."""


class VersionChangeError(LineMonitorError):
    """No version was put in force. The message is one line with the fix."""


class VersionChanges:
    """The changes of versions in force on one line. `utc_ns` is the clock.

    `check` raises LineMonitorError for a version that the line could not use.
    """

    def __init__(
        self,
        settings: Settings,
        trail: AuditTrail,
        utc_ns: Callable[[], int] = time.time_ns,
        check: Callable[[Settings, VersionFile], None] | None = None,
    ) -> None:
        self._settings, self._recipes = settings, paths.recipes(settings)
        self._trail, self._utc_ns, self._check = trail, utc_ns, check or check_usable

    def find_permission(self, recipe: str, number: int) -> Permission:
        """What it takes to put the version in force: the first time it is promoted. Raises RecipeError."""
        folder = self._recipes / recipe
        is_promoted = in_force.is_promoted(find_version(folder, number))
        return Permission.USE if is_promoted else Permission.PROMOTE

    def find_meaning(self, recipe: str, number: int, *, back: bool = False) -> str:
        """What the signature under the version states. Who puts a promoted version in force again does not
        approve it. Raises RecipeError."""
        version = find_version(self._recipes / recipe, number)
        document = in_force.read_in_force(version.folder)
        promotion = document.find_promotion(version) if document else None
        before = ""
        if promotion is not None and promotion.approval.is_signed:
            before = f" (already approved by {promotion.approval.signer})"
        if back:
            return f"rollback to {version.name}{before}"
        return f"put in force{before}" if before else APPROVED

    def find_step_back(self, recipe: str) -> int:
        """The version to which a rollback leads. Raises RecipeError."""
        return in_force.find_step_back(self._recipes / recipe)

    def use(
        self, recipe: str, number: int, signature: Signature, permission: Permission, via: str
    ) -> in_force.VersionChange:
        """Puts the version in force. `permission` is what the signature was checked for.

        Raises RecipeError, AuditError, VersionChangeError.
        """
        recording = self._recorder(None, signature, permission, via)
        return in_force.put_in_force(self._recipes / recipe, number, self._approve(signature), recording)

    def roll_back(
        self, recipe: str, signature: Signature, permission: Permission, via: str
    ) -> in_force.VersionChange:
        """Puts the version in force that was before the present one. Raises as `use`."""
        recording = self._recorder(Kind.ROLLBACK, signature, permission, via)
        return in_force.roll_back(self._recipes / recipe, self._approve(signature), recording)

    def _approve(self, signature: Signature) -> Approval:
        return Approval(
            who=signature.name,
            utc=rfc3339(self._utc_ns()),
            meaning=signature.meaning,
            is_proven=signature.is_proven,
        )

    def _recorder(
        self, kind: Kind | None, signature: Signature, permission: Permission, via: str
    ) -> Callable[[in_force.VersionChange], AbstractContextManager[object]]:
        def recording(change: in_force.VersionChange) -> AbstractContextManager[object]:
            if change.is_promotion and permission is not Permission.PROMOTE:
                raise VersionChangeError(f"{change.after.name} is not promoted any more: try again")
            self._check(self._settings, change.after)
            usual = Kind.PROMOTION if change.is_promotion else Kind.IN_FORCE
            entry = Change(
                kind or usual,
                signature.name,
                f"recipe.{change.after.folder.name}.in_force",
                describe(change.before) if change.before else None,
                describe(change.after),
                signature.statement,
                change.approval.utc,
                via=via,
                signed=signature.is_proven,
            )
            return self._trail.recording(entry, lambda: rfc3339(self._utc_ns()))

        return recording


def check_usable(settings: Settings, version: VersionFile) -> None:
    """Raises LineMonitorError when the line could not judge with the version: its networks can't be built, or
    a camera that follows the recipe has another region. The networks are built on the CPU, so that a running
    line keeps its GPU."""
    from monitor.inference.scorer import Scorer

    loaded = RecipeVersion.load(version.file)
    Scorer(loaded, device="cpu", runtime="torch", precision="f32")
    _check_regions(settings, version, loaded)


def check_regions(settings: Settings, version: VersionFile) -> None:
    """Raises LineMonitorError when a camera that follows the recipe has another region than the version. It
    takes no torch: a trial on the page (`version_trial`) has built the networks before."""
    _check_regions(settings, version, RecipeVersion.load(version.file))


def _check_regions(settings: Settings, version: VersionFile, loaded: RecipeVersion) -> None:
    recipe = version.folder.name
    for camera in settings.camera:
        follows = find_recipe_to_load(paths.changeovers(settings), camera) == recipe
        if follows and (why := find_region_conflict(camera, loaded, version.name)):
            raise VersionChangeError(f"{version.name} is not put in force: {why}")


def describe(version: VersionFile) -> str:
    """The version as the record names it: number, hash and thresholds."""
    thresholds = ", ".join(
        f"{key} {calibration.threshold!r}"
        for key, calibration in sorted(read_document(version).calibration.items())
    )
    name = join_version(version.folder.name, version.number)
    return f"{name}, sha256 {version.digits}..., threshold {thresholds}"
