"""The entries in the record of changes for versions that are taught or counted. For page and command line.

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
from monitor.names import join_version
from monitor.settings import Settings
from monitor.verdict import rfc3339

TAUGHT = "recipe taught"
"""What a training means in the record, and what its signature states."""
COUNTED = "known defects counted"


def describe_draft(draft: RecipeVersion) -> str:
    """The version that a training is about to commit, as the record names it."""
    lineage = draft.document.lineage
    images = (
        f", {lineage.images} images, sha256 {lineage.images_sha256}" if lineage and lineage.images else ""
    )
    return f"threshold {draft.document.calibration[REFERENCE].threshold!r}{images}"


@contextmanager
def record_training(settings: Settings, draft: RecipeVersion, who: str, via: str) -> Iterator[None]:
    """Records that the recipe was taught by a person without a signature, then runs the block that commits
    it. The present version stays in force: another one needs a signature of its own.

    Raises RecipeError and AuditError.
    """
    with _recording(settings, draft, who, via, before=None, after=describe_draft(draft), meaning=TAUGHT):
        yield


@contextmanager
def record_count(
    settings: Settings, before: RecipeVersion, draft: RecipeVersion, who: str, via: str
) -> Iterator[None]:
    """Records that a version with other known defects was made of an earlier one, as `record_training`."""
    scores = draft.document.defect_scores
    after = f"{len(scores.known) if scores else 0} known defects, {describe_draft(draft)}"
    of = join_version(before.name, before.number)
    with _recording(settings, draft, who, via, before=of, after=after, meaning=COUNTED):
        yield


@contextmanager
def _recording(
    settings: Settings,
    draft: RecipeVersion,
    who: str,
    via: str,
    *,
    before: str | None,
    after: str,
    meaning: str,
) -> Iterator[None]:
    """Raises RecipeError and AuditError."""
    utc = _utc()
    if find_newest(draft.folder) is not None:
        hold_in_force(draft.folder, utc)
    change = Change(Kind.TRAINING, who, f"recipe.{draft.name}", before, after, meaning, utc, via=via)
    with AuditTrail.of(settings).recording(change, _utc):
        yield


def _utc() -> str:
    return rfc3339(time.time_ns())
