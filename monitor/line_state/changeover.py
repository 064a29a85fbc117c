"""Changeover: a camera's recipe is asked for, loaded beside the one in force, and then in force or refused.

What was asked (by the publisher) and what stands (by the scoring worker) lie on the board, so that a worker
that dies in between is followed by one that still answers. What was put in force also lies in
`line.data/changeovers/<camera>.json`, whole or not at all, before the first part is judged by it: after the
restart of a worker, of the service or of the machine the line goes on with the recipe that was last in
force, since that is what the parts on the belt are. The settings' recipe comes back when somebody changes
it there: a changeover counts only against the setting it was made under.

Nothing here loads a recipe, and nothing here sends.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from monitor.errors import LineMonitorError
from monitor.line_state.board import Board, Note
from monitor.line_state.worker_process import capture_name
from monitor.names import InvalidNameError, check_name
from monitor.settings import CameraSettings
from monitor.system.atomic_file import write_whole
from monitor.verdict import SCHEMA

RequestId = (
    Annotated[str, msgspec.Meta(max_length=64)] | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
)
_LONGEST_REASON = 900
"""In bytes of UTF-8: what a note on the board has room for beside the rest."""
_MOST_REMEMBERED = 4


class ChangeoverError(LineMonitorError):
    """The recipe that a changeover left in force is not known. The message is one line with the fix."""


class BadRequest(LineMonitorError):
    """A message that is no request; one line says why."""


class State(StrEnum):
    LOADING = "loading"
    IN_FORCE = "in_force"
    REFUSED = "refused"


class Asked(msgspec.Struct, frozen=True):
    """The payload of `P/{camera}/recipe/set`."""

    request_id: RequestId
    recipe: str


class Request(msgspec.Struct, frozen=True):
    """A recipe asked for, as it waits on the board."""

    number: int
    """Counts a camera's requests in this session from 1."""
    request_id: RequestId
    recipe: str


class Judged(msgspec.Struct, frozen=True):
    """A recipe that judges or has judged: its name, and the sha256 of its `recipe.json`."""

    recipe: str
    sha: str


class Standing(msgspec.Struct, frozen=True):
    """What the scoring worker says about a camera's recipe."""

    number: int
    """Of the last request it has taken up; 0 before the first."""
    request_id: RequestId | None
    state: State
    recipe: str
    """The one that `state` is about."""
    reason: str | None
    in_force: Judged | None
    """None while parts can't be judged at all."""
    judged: tuple[Judged, ...] = ()
    """The last recipes that were in force, newest first: frames that are still on their way were judged by
    one of them."""

    def name_of(self, sha: str) -> str | None:
        """The name of a recipe that was in force lately."""
        return next((judged.recipe for judged in self.judged if judged.sha == sha), None)

    def payload(self) -> dict[str, Any]:
        """The contract's payload of `P/{camera}/recipe`."""
        sha = self.in_force.sha if self.state is State.IN_FORCE and self.in_force else None
        return answer(self.request_id, self.state, self.recipe, sha, self.reason, self.in_force)


def answer(
    request_id: RequestId | None,
    state: State,
    recipe: str,
    sha: str | None,
    reason: str | None,
    in_force: Judged | None,
) -> dict[str, Any]:
    """The contract's payload of `P/{camera}/recipe`. It always says what is in force as well."""
    return {
        "schema": SCHEMA,
        "request_id": request_id,
        "state": state.value,
        "recipe": recipe,
        "recipe_sha": sha,
        "reason": reason,
        "in_force": {"recipe": in_force.recipe, "recipe_sha": in_force.sha} if in_force else None,
    }


def parse(payload: bytes) -> Asked:
    """Raises BadRequest when that is none."""
    try:
        return msgspec.json.decode(payload, type=Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"want {{request_id, recipe}}: {error}") from None


def succeeded(standing: Standing | None, judged: Judged) -> tuple[Judged, ...]:
    """`Standing.judged` once that recipe is in force."""
    before = standing.judged if standing else ()
    return (judged, *(one for one in before if one != judged))[:_MOST_REMEMBERED]


def shortened(reason: str) -> str:
    """One line that fits on the board."""
    return " ".join(reason.split()).encode()[:_LONGEST_REASON].decode(errors="ignore")


# On the board

_T = TypeVar("_T")


def ask(board: Board, camera: str, request: Request) -> None:
    """The publisher's."""
    board.write_note(capture_name(camera), Note.REQUEST, msgspec.msgpack.encode(request))


def asked(board: Board, camera: str) -> Request | None:
    return _read(board, camera, Note.REQUEST, Request)


def stand(board: Board, camera: str, standing: Standing) -> None:
    """The scoring worker's."""
    board.write_note(capture_name(camera), Note.STANDING, msgspec.msgpack.encode(standing))


def stands(board: Board, camera: str) -> Standing | None:
    return _read(board, camera, Note.STANDING, Standing)


def recipe_name(board: Board, camera: CameraSettings, sha: str) -> str:
    """The name of the recipe that judged a part, by its sha; of what was not judged (empty), the one in
    force."""
    standing = stands(board, camera.name)
    if standing is None:
        return camera.recipe
    in_force = standing.in_force.recipe if standing.in_force else standing.recipe
    return (standing.name_of(sha) if sha else None) or in_force


def _read(board: Board, camera: str, note: Note, kind: type[_T]) -> _T | None:
    content = board.read_note(capture_name(camera), note)
    return msgspec.msgpack.decode(content, type=kind) if content else None


# On disk


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The recipe last put in force over MQTT, as it outlives the service."""

    schema: int = SCHEMA
    recipe: str
    instead_of: str
    """The settings' recipe at that time."""
    request_id: RequestId
    session: str
    number: int
    """Of the request in that session."""
    utc: str


def keep(folder: Path, camera: str, kept: Kept) -> None:
    """On disk when it returns. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{camera}.json", msgspec.json.encode(kept) + b"\n")


def kept(folder: Path, camera: CameraSettings) -> Kept | None:
    """What was last put in force over MQTT, unless the settings have been changed since.

    Raises ChangeoverError when that can't be read: nobody knows then which parts are on the belt.
    """
    file = folder / f"{camera.name}.json"
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Kept)
        check_name(found.recipe)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidNameError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ChangeoverError(
            f"{file}: can't tell which recipe was in force ({why}): set one over MQTT, or delete the file to "
            f"go back to recipe {camera.recipe!r}"
        ) from None
    return found if found.instead_of == camera.recipe else None


def forget(folder: Path, camera: str) -> bool:
    """Whether there was anything to forget. Raises OSError."""
    file = folder / f"{camera}.json"
    there = file.exists()
    file.unlink(missing_ok=True)
    return there


def to_load(folder: Path, camera: CameraSettings) -> str:
    """The name of the recipe that a start of the line puts in force. Raises ChangeoverError."""
    found = kept(folder, camera)
    return found.recipe if found else camera.recipe
