"""Which version of a recipe judges parts: `in_force.json` in the recipe's folder.

It knows nothing of accounts, and of the running line only that its scoring worker reads this file. Renaming
`in_force.json` into place puts a version in force, so that a crash leaves either the old one or the new one.
Without the file the version that was committed last is in force. The first version is put in force by a
person who signs for it, and that promotes it: the file lists all promoted versions with their approvals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from monitor.model.recipe_json import FILE, RecipeError, Sha256
from monitor.model.recipe_version import RecipeVersion
from monitor.model.version_files import (
    VersionFile,
    find_newest,
    find_version,
    keep_newest,
    list_versions,
    lock_folder,
)
from monitor.names import join_version, split_version
from monitor.system.atomic_file import write_whole

IN_FORCE_FILE = "in_force.json"
UNAPPROVED = "in force before the first promotion"
"""The meaning of the entry for a version that nobody has signed for."""
_MOST_STEPS_BACK = 100


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers for a change, when, and what the approval means."""

    who: str
    utc: str
    meaning: str
    is_proven: bool = False
    """Whether a password proved the name."""

    @property
    def is_signed(self) -> bool:
        """Whether a person has signed; else the version was only written down as the present one."""
        return self.who != ""

    @property
    def signer(self) -> str:
        """The name for people to read; empty where nobody has signed."""
        return self.who if self.is_proven or not self.who else f"{self.who} (without a password)"


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that may judge parts."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    recipe_sha: Sha256
    approval: Approval


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """`in_force.json`. The schema only gains fields; unknown fields are ignored."""

    schema: Literal[1] = 1
    version: Annotated[int, msgspec.Meta(ge=1)]
    recipe_sha: Sha256
    approval: Approval
    """Of the last change."""
    promoted: tuple[Promotion, ...]
    """In the order of their first promotion."""
    before: tuple[int, ...] = ()
    """The versions to which a rollback leads, the next one last."""

    def find_promotion(self, version: VersionFile) -> Promotion | None:
        """The version's entry, if its document is still the one that was promoted."""
        for promotion in self.promoted:
            if promotion.version == version.number and promotion.recipe_sha.startswith(version.digits):
                return promotion
        return None

    def is_promoted(self, version: VersionFile) -> bool:
        """Whether a person has signed for the version."""
        found = self.find_promotion(version)
        return found is not None and found.approval.is_signed


@dataclass(frozen=True, slots=True)
class VersionChange:
    """A change of the version in force that is about to be made."""

    before: VersionFile | None
    """None where its document is gone."""
    after: VersionFile
    approval: Approval
    is_promotion: bool
    """Whether the version was never promoted before."""


Recording = Callable[[VersionChange], AbstractContextManager[object]]
"""Writes a change to a record before its block makes the change."""


def read_in_force(folder: Path) -> InForce | None:
    """What `in_force.json` says; None without one. Raises RecipeError."""
    file = folder / IN_FORCE_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=InForce)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(
            f"{file}: can't tell which version is in force ({why}): restore the file, or remove it and put a "
            f"version in force with `line-monitor recipes use {folder.name}@VERSION`"
        ) from None


def find_in_force(folder: Path) -> VersionFile:
    """The version in force. Raises RecipeError."""
    return find_present(folder, read_in_force(folder))


def find_present(folder: Path, document: InForce | None) -> VersionFile:
    """The version in force by a document that was read before; the newest without one. Raises RecipeError."""
    if document is None:
        newest = find_newest(folder)
        if newest is None:
            raise RecipeError(f"{folder / FILE}: no such file: train the recipe")
        return newest
    found = _find_by_sha(folder, document.recipe_sha)
    if found is None:
        name = join_version(folder.name, document.version)
        raise RecipeError(
            f"{folder}: {name} is in force, but its document is gone: restore it, or put another version in "
            f"force with `line-monitor recipes use {folder.name}@VERSION`"
        )
    return found


def find_judging(folder: Path, sha: str) -> VersionFile:
    """The version with which a running line judges, by its sha256; the one in force where that is empty or
    gone. Raises RecipeError."""
    return (_find_by_sha(folder, sha) if sha else None) or find_in_force(folder)


def find_asked(recipes: Path, name: str) -> VersionFile:
    """The version that `NAME@VERSION` names; the one in force for `NAME` alone.

    Raises RecipeError and InvalidNameError.
    """
    recipe, number = split_version(name)
    folder = recipes / recipe
    return find_in_force(folder) if number is None else find_version(folder, number)


def is_promoted(version: VersionFile) -> bool:
    """Whether a person has signed for the version. Raises RecipeError."""
    document = read_in_force(version.folder)
    return document is not None and document.is_promoted(version)


def find_promoted(recipes: Path, name: str, *, is_signed: bool) -> VersionFile:
    """As `find_asked`, for those who may only choose among promoted versions. `is_signed`: promotions are
    signed with accounts, so that a version that was in force before the first promotion does not count as
    promoted. Raises RecipeError and InvalidNameError."""
    found = find_asked(recipes, name)
    document = read_in_force(found.folder)
    if document is None:
        may_be_chosen = not is_signed
    else:
        may_be_chosen = (
            document.is_promoted(found) if is_signed else document.find_promotion(found) is not None
        )
    if not may_be_chosen:
        raise RecipeError(
            f"{found.name} is not promoted: put it in force with `line-monitor recipes use {found.name}` or "
            "on the page first"
        )
    return found


def find_waiting(folder: Path) -> VersionFile | None:
    """The newest version if it is later than the one in force and was never promoted; else None. Raises
    RecipeError."""
    document, newest = read_in_force(folder), find_newest(folder)
    if document is None or newest is None or document.is_promoted(newest):
        return None
    return newest if newest.number > document.version else None


def explain_not_in_force(version: RecipeVersion) -> Iterator[str]:
    """A line for a person who has just made a version that is not in force; nothing for one that is. Raises
    RecipeError."""
    present = find_in_force(version.folder)
    if not version.sha.startswith(present.digits):
        made = join_version(version.folder.name, version.number)
        yield (
            f"{made} is not in force, {present.name} is: compare them with `line-monitor recipes compare "
            f"{present.name} {made}`, put it in force with `line-monitor recipes use {made}`"
        )


def put_in_force(
    folder: Path, number: int, approval: Approval, recording: Recording = nullcontext
) -> VersionChange:
    """Puts a version in force, and promotes it if it never was. Raises RecipeError."""
    return _change(folder, approval, recording, lambda document: number)


def roll_back(folder: Path, approval: Approval, recording: Recording = nullcontext) -> VersionChange:
    """Puts the version in force that was before the present one. Raises RecipeError."""
    return _change(folder, approval, recording, lambda document: _step_back(folder, document), back=True)


def find_step_back(folder: Path) -> int:
    """The version to which a rollback leads. Raises RecipeError."""
    return _step_back(folder, read_in_force(folder))


def _step_back(folder: Path, document: InForce | None) -> int:
    if document is None or not document.before:
        raise RecipeError(
            f"{folder.name}: no version was in force before this one: name one with "
            f"`line-monitor recipes use {folder.name}@VERSION`"
        )
    return document.before[-1]


def hold_in_force(folder: Path, utc: str) -> None:
    """Writes down the version in force where nobody has promoted one yet, so that the next commit does not
    put its version in force. Raises RecipeError."""
    with _lock_and_read(folder) as document:
        if document is not None:
            return
        present = find_present(folder, None)
        sha = RecipeVersion.load(present.file).sha
        approval = Approval(who="", utc=utc, meaning=UNAPPROVED)
        promotion = Promotion(version=present.number, recipe_sha=sha, approval=approval)
        _write(
            folder, InForce(version=present.number, recipe_sha=sha, approval=approval, promoted=(promotion,))
        )


def _change(
    folder: Path,
    approval: Approval,
    recording: Recording,
    choose: Callable[[InForce | None], int],
    *,
    back: bool = False,
) -> VersionChange:
    if not folder.is_dir():
        raise RecipeError(f"{folder}: there is no such recipe: train it")
    with _lock_and_read(folder) as document:
        after = find_version(folder, choose(document))
        # Loading checks every file: a damaged version must not be put in force.
        sha = RecipeVersion.load(after.file).sha
        before = _find_by_sha(folder, document.recipe_sha) if document else find_newest(folder)
        change = VersionChange(before, after, approval, not (document and document.is_promoted(after)))
        with recording(change):
            _write(folder, _next_document(document, change, sha, back=back))
    return change


@contextmanager
def _lock_and_read(folder: Path) -> Iterator[InForce | None]:
    """Locks the folder for one change of `in_force.json`, copies `recipe.json` to `versions/` if that is
    missing there, and reads `in_force.json`. Raises RecipeError."""
    try:
        with lock_folder(folder):
            keep_newest(folder)
            yield read_in_force(folder)
    except OSError as error:
        raise RecipeError(f"{folder}: can't be written: {error.strerror or error}") from None


def _next_document(document: InForce | None, change: VersionChange, sha: str, *, back: bool) -> InForce:
    number = change.after.number
    promoted = document.promoted if document else ()
    if change.is_promotion:
        others = tuple(one for one in promoted if one.version != number)
        promoted = (*others, Promotion(version=number, recipe_sha=sha, approval=change.approval))
    steps = document.before if document else ()
    if back:
        steps = steps[:-1]
    elif change.before and number != change.before.number:
        steps = (*steps, change.before.number)[-_MOST_STEPS_BACK:]
    return InForce(version=number, recipe_sha=sha, approval=change.approval, promoted=promoted, before=steps)


def _find_by_sha(folder: Path, sha: str) -> VersionFile | None:
    """The version whose document has that sha256; None where its file is gone."""
    return next((one for one in list_versions(folder) if sha.startswith(one.digits)), None)


def _write(folder: Path, document: InForce) -> None:
    text = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    write_whole(folder / IN_FORCE_FILE, text)
