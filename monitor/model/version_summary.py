"""What people see of a recipe's versions in a list: when, from what, by whom, threshold, in force or not.

It loads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from monitor.model.in_force import InForce, Promotion, find_present, read_in_force
from monitor.model.recipe_json import FILE, REFERENCE, Document, Origin, RecipeError
from monitor.model.version_files import FOLDER, VersionFile, list_versions
from monitor.names import InvalidNameError, check_name
from monitor.verdict import rfc3339_seconds


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """One version in the list."""

    version: VersionFile
    document: Document | None
    """None where it can't be read."""
    made: str
    """When it was made, in UTC."""
    origin: str
    """From what and by whom, in words."""
    is_in_force: bool
    promotion: Promotion | None
    """None where nobody has promoted it."""

    @property
    def is_signed(self) -> bool:
        """Whether a person has promoted it."""
        return self.promotion is not None and self.promotion.approval.is_signed

    @property
    def threshold(self) -> float | None:
        calibration = self.document.calibration.get(REFERENCE) if self.document else None
        return calibration.threshold if calibration else None

    @property
    def state(self) -> str:
        """In force or not, and what was signed for it. Which version judges parts is known to a running line
        alone."""
        words = "in force" if self.is_in_force else "not in force"
        if self.promotion is None:
            # Without any promotion the newest version is the one that a line takes.
            return "newest: taken by a line that starts" if self.is_in_force else "not promoted"
        approval = self.promotion.approval
        by = f"{approval.meaning}, {approval.signer}" if approval.who else approval.meaning
        return f"{words} ({by}, {approval.utc})"


def list_recipes(recipes: Path) -> list[str]:
    """The names of the recipes that have a version."""
    found = []
    for folder in sorted(recipes.iterdir()) if recipes.is_dir() else []:
        try:
            check_name(folder.name)
        except InvalidNameError:
            continue
        if (folder / FILE).exists() or (folder / FOLDER).is_dir():
            found.append(folder.name)
    return found


def summarise(folder: Path) -> list[VersionSummary]:
    """A recipe's versions, oldest first. Raises RecipeError where it can't be told which one is in force."""
    versions = list_versions(folder)
    in_force = read_in_force(folder)
    present = find_present(folder, in_force)
    numbers = {version.digits: version.number for version in versions}
    return [_summarise(version, in_force, version == present, numbers) for version in versions]


def _summarise(
    version: VersionFile, in_force: InForce | None, is_in_force: bool, numbers: Mapping[str, int]
) -> VersionSummary:
    promotion = in_force.find_promotion(version) if in_force else None
    try:
        document = read_document(version)
        made, origin = _find_time(version, document), explain_origin(document, numbers)
    except RecipeError:
        document, made, origin = None, "", "can't be read"
    return VersionSummary(version, document, made, origin, is_in_force, promotion)


def read_document(version: VersionFile) -> Document:
    """Raises RecipeError."""
    try:
        return msgspec.json.decode(version.file.read_bytes(), type=Document)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"{version.file}: not a recipe ({why}): restore the file") from None


def explain_origin(document: Document, numbers: Mapping[str, int]) -> str:
    """From what and by whom a version was made. `numbers` has the recipe's versions by the first 16 digits of
    their sha256."""
    lineage, training = document.lineage, document.training
    if lineage is None:
        return f"taught from {training.images} images" if training else "of unknown origin"
    by = f" by {lineage.who}" if lineage.who else ""
    if lineage.origin is Origin.TRAINING:
        return f"taught from {lineage.images} images{by}"
    what = f"{lineage.images} images" if lineage.images else "recorded scores"
    if lineage.origin is Origin.REVIEW:
        what = f"{lineage.images} labelled parts"
    parent = numbers.get((lineage.parent or "")[:16])
    of = f"@{parent}" if parent else "a version that is gone"
    return f"{lineage.origin} from {what} and {of}{by}"


def _find_time(version: VersionFile, document: Document) -> str:
    """When the version was made, in UTC; for a document that does not record it, the time of its file."""
    if document.lineage:
        return document.lineage.utc
    if document.training:
        return document.training.utc
    seconds = version.file.stat().st_mtime
    return rfc3339_seconds(datetime.fromtimestamp(seconds, UTC))
