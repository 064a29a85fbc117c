"""The lock by which one recipe is trained by one process at a time: from the page, a command or a fleet.

It knows nothing of how a recipe is trained. Two trainings at once would replace each other's saved state.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor.system.file_owner import give_to_folders_owner
from monitor.training.loop import TrainingError


@contextmanager
def hold_recipe(recipes: Path, recipe: str) -> Iterator[None]:
    """Holds the recipe of that name in the folder of all recipes, which is there. The kernel frees it with
    this process.

    Raises TrainingError where another training holds it.
    """
    file = recipes / f".training-{recipe}.lock"
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TrainingError(f"{file}: can't be written ({error.strerror}); see line.data") from None
    try:
        _share(handle, file)
        if not _take(handle, file):
            raise TrainingError(
                f"recipe {recipe} is being trained already, by another command or from the page: wait until "
                "that ends, or stop it there"
            )
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _share(handle: int, file: Path) -> None:
    """Lets the service open what a command of root may leave behind. Raises TrainingError."""
    try:
        give_to_folders_owner(handle, file.parent)
    except OSError as error:
        raise TrainingError(
            f"{file}: its owner can't be set ({error.strerror}): run the command as the service's user"
        ) from None


def _take(handle: int, file: Path) -> bool:
    """Locks the open file. False where another process has it, or has removed it from its folder since."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), file.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
