"""The entry in the record of changes for a version that was taught. For the page and the command line.

It knows nothing of how a recipe is trained.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.model.in_force import hold_in_force
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.model.version_files import find_newest
from monitor.settings import Settings
from monitor.verdict import rfc3339

TAUGHT = "recipe taught"
"""What a training means in the record, and what its signature states."""


def describe_draft(draft: RecipeVersion) -> str:
    """The version that a training is about to commit, as the record names it."""
    lineage = draft.document.lineage
    images = f", {lineage.images} images, sha256 {lineage.images_sha256}" if lineage else ""
    return f"threshold {draft.document.calibration[REFERENCE].threshold!r}{images}"


@contextmanager
def record_training(settings: Settings, draft: RecipeVersion, who: str, via: str) -> Iterator[None]:
    """Records that the recipe was taught by a person without a signature, then runs the block that commits
    it. The present version stays in force: another one needs a signature of its own.

    Raises RecipeError and AuditError.
    """
    utc = _utc()
    if find_newest(draft.folder) is not None:
        hold_in_force(draft.folder, utc)
    change = Change(
        Kind.TRAINING, who, f"recipe.{draft.name}", None, describe_draft(draft), TAUGHT, utc, via=via
    )
    with AuditTrail.of(settings).recording(change, _utc):
        yield


def _utc() -> str:
    return rfc3339(time.time_ns())
