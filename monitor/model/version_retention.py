"""Which versions of a recipe are removed when there are more than the settings allow.

It knows nothing of when that is. The newest version, the one in force and all that were ever promoted stay:
they are evidence of what judged parts. The oldest of the others go first.
"""

from __future__ import annotations

from pathlib import Path

from monitor.model.in_force import find_present, read_in_force
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import remove_unnamed_weights
from monitor.model.version_files import VersionFile, find_newest, keep_newest, list_kept, lock_folder


def remove_old_versions(folder: Path, most: int) -> list[VersionFile]:
    """Removes versions until there are at most `most`, as far as they may go, and the weights that only they
    had. Returns the removed ones. Raises RecipeError."""
    try:
        with lock_folder(folder):
            keep_newest(folder)
            document = read_in_force(folder)
            stay = {find_present(folder, document), find_newest(folder)}
            kept = list_kept(folder)
            removable = [
                version
                for version in kept
                if version not in stay and not (document and document.find_promotion(version))
            ]
            removed = removable[: max(0, len(kept) - most)]
            for version in removed:
                version.file.unlink(missing_ok=True)
            if removed:
                remove_unnamed_weights(folder)
            return removed
    except OSError as error:
        raise RecipeError(f"{folder}: old versions can't be removed: {error.strerror or error}") from None
