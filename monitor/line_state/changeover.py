"""Changeover: the change of a camera's recipe by a request, on the board and on disk.

It loads no recipe and sends no message. The publisher writes the request to the board, and the scoring worker
writes its answer there. The new recipe is loaded while the old one is in force; then it is put in force or
refused. When one of the two processes dies, its successor finds the request on the board and answers it.

Before the first part is judged by a new recipe, the recipe is also written to
`line.data/changeovers/<camera>.json`. After a restart of a worker, the service or the machine the line goes
on with that recipe, because the parts on the belt have not changed. The file counts only while the recipe in
the settings is the one that it replaced: a change there puts the settings' recipe in force again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import msgspec

from monitor.errors import LineMonitorError
from monitor.line_state.board import Board, Note
from monitor.line_state.recipe_set import SET_FILE, RecipeSetError, SetDocument, read_set, write_set
from monitor.line_state.worker_process import capture_name
from monitor.names import InvalidNameError, check_name, join_version, split_version
from monitor.settings import CameraSettings
from monitor.system.atomic_file import write_whole
from monitor.verdict import SCHEMA

RequestId = (
    Annotated[str, msgspec.Meta(max_length=64)] | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
)
_LONGEST_REASON = 900
"""In bytes of UTF-8: what fits into a note of the board beside the other values."""
_MOST_RECENT = 4
_LONGEST_REQUEST = 4096
"""The most bytes of a request."""
_LONGEST_READ = 65_536
"""The most bytes of a message that is too long in which its request is looked for."""
_LONGEST_SHOWN = 48
"""The most characters of a name from a message that a reason repeats; with a version it has at most 42."""
_T = TypeVar("_T")


class ChangeoverError(LineMonitorError):
    """The recipe in force after a changeover is not known. The message is one line with the fix."""


class RequestError(LineMonitorError):
    """The message is not a valid request. The error's message is one line with the cause."""

    def __init__(self, why: str, request_id: RequestId | None = None, wanted: str | None = None) -> None:
        super().__init__(why)
        self.request_id, self.wanted = request_id, wanted
        """What could be read of the request, its recipe or set; None where nothing could be."""


class ChangeoverState(StrEnum):
    LOADING = "loading"
    IN_FORCE = "in_force"
    REFUSED = "refused"


class RequestPayload(msgspec.Struct, frozen=True):
    """The payload of `P/{camera}/recipe/set`."""

    request_id: RequestId
    recipe: str
    """`NAME`, or `NAME@VERSION` for one of its promoted versions."""


class Request(msgspec.Struct, frozen=True):
    """A requested recipe on the board. The field names are stored there."""

    number: int
    """The number of the request, for this camera and session, from 1."""
    request_id: RequestId
    recipe: str

    def is_repeated_by(self, payload: RequestPayload) -> bool:
        """Whether the message is the same request once more, as QoS 1 allows."""
        return (self.request_id, self.recipe) == (payload.request_id, payload.recipe)


class RecipeIdentity(msgspec.Struct, frozen=True):
    """A recipe that is or was in force: its name, and the sha256 of its `recipe.json`."""

    recipe: str
    sha: str
    version: int | None = None
    """Its number; None where it is not known."""


class RecipeStatus(msgspec.Struct, frozen=True):
    """A camera's recipe in force and the answer to its last request, from the scoring worker. The field names
    are stored on the board."""

    number: int
    """The number of the last request that the scoring worker has begun; 0 before the first."""
    request_id: RequestId | None
    state: ChangeoverState
    recipe: str
    """The recipe to which `state` applies."""
    reason: str | None
    in_force: RecipeIdentity | None
    """None while no part can be judged."""
    judged: tuple[RecipeIdentity, ...] = ()
    """The last recipes in force, newest first. One of them judged each frame that is still in flight."""
    who: str = ""
    """Who put the version in force by signing for it; empty after a start or an MQTT request."""
    is_pinned: bool = False
    """Whether the camera keeps its version, because a request named the version."""

    def find_judge(self, sha: str) -> RecipeIdentity | None:
        """One of the last recipes, by its sha256."""
        return next((recent for recent in self.judged if recent.sha == sha), None)

    def payload(self) -> dict[str, Any]:
        """The contract's payload of `P/{camera}/recipe`."""
        sha = self.in_force.sha if self.state is ChangeoverState.IN_FORCE and self.in_force else None
        return make_answer(self.request_id, self.state, self.recipe, sha, self.reason, self.in_force)


def make_answer(
    request_id: RequestId | None,
    state: ChangeoverState,
    recipe: str | None,
    sha: str | None,
    reason: str | None,
    in_force: RecipeIdentity | None,
) -> dict[str, Any]:
    """The contract's payload of `P/{camera}/recipe`. It always contains the recipe in force as well."""
    return {
        "schema": SCHEMA,
        "request_id": request_id,
        "state": state.value,
        "recipe": recipe,
        "recipe_sha": sha,
        "reason": reason,
        "in_force": {
            "recipe": in_force.recipe,
            "recipe_sha": in_force.sha,
            "version": in_force.version,
        }
        if in_force
        else None,
    }


def parse_request(payload: bytes) -> RequestPayload:
    """Reads the payload of `P/{camera}/recipe/set`. Raises RequestError."""
    return parse_as(RequestPayload, payload, "recipe")


def parse_as(kind: type[_T], payload: bytes, key: str) -> _T:
    """Reads a request whose `key` names what is asked for. Raises RequestError."""
    if len(payload) > _LONGEST_REQUEST:
        why = f"{len(payload)} bytes are more than {_LONGEST_REQUEST}"
        raise _refuse(payload if len(payload) <= _LONGEST_READ else b"", why, key)
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refuse(payload, f"want {{request_id, {key}}}: {error}", key) from None


def _refuse(payload: bytes, why: str, key: str) -> RequestError:
    """The refusal of a message, with what can be read of its request. A value that is too long to be repeated
    counts as one that can't be read."""
    values = _read_key(payload, "request_id", RequestId), _read_key(payload, key, str)
    request_id, wanted = (None if len(str(value)) > _LONGEST_REQUEST else value for value in values)
    return RequestError(why, request_id, wanted)


def _read_key(payload: bytes, key: str, kind: Any) -> Any:
    """One key of a malformed request; None when that key is missing or malformed too."""
    try:
        return msgspec.json.decode(msgspec.json.decode(payload, type=dict[str, msgspec.Raw])[key], type=kind)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def add_recent_recipe(status: RecipeStatus | None, recipe: RecipeIdentity) -> tuple[RecipeIdentity, ...]:
    """The last recipes in force, newest first, after `recipe` has been put in force."""
    before = status.judged if status else ()
    return (recipe, *(recent for recent in before if recent != recipe))[:_MOST_RECENT]


def shorten_reason(reason: str) -> str:
    """The reason in one line, cut to the length that fits on the board."""
    return " ".join(reason.split()).encode()[:_LONGEST_REASON].decode(errors="ignore")


def shorten_name(name: str) -> str:
    """A name from a message, cut to what a reason repeats."""
    return name[:_LONGEST_SHOWN] + "..." * (len(name) > _LONGEST_SHOWN)


# On the board


class _Numbered(Protocol):
    """A request, or the status that answers it."""

    @property
    def number(self) -> int: ...


class _Status(_Numbered, Protocol):
    @property
    def state(self) -> ChangeoverState: ...


def is_answered(request: _Numbered, status: _Status | None) -> bool:
    """Whether the scoring worker has given the final answer to the request."""
    return (
        status is not None and status.number >= request.number and status.state is not ChangeoverState.LOADING
    )


def next_number(last: _Numbered | None, status: _Numbered | None) -> int:
    """The number of the request after the last one."""
    return 1 + max(last.number if last else 0, status.number if status else 0)


def write_request(board: Board, camera: str, request: Request) -> None:
    """Writes a camera's request. Only the publisher calls it."""
    board.write_note(capture_name(camera), Note.REQUEST, msgspec.msgpack.encode(request))


def read_request(board: Board, camera: str) -> Request | None:
    """A camera's last request; None when there is none."""
    return read_note(board, capture_name(camera), Note.REQUEST, Request)


def find_pending(board: Board, camera: str) -> Request | None:
    """A camera's request that the scoring worker has not answered yet; None when there is none."""
    request = read_request(board, camera)
    if request is None or is_answered(request, read_recipe_status(board, camera)):
        return None
    return request


def write_recipe_status(board: Board, camera: str, status: RecipeStatus) -> None:
    """Writes the status of a camera's recipe. Only the scoring worker calls it."""
    board.write_note(capture_name(camera), Note.RECIPE_STATUS, msgspec.msgpack.encode(status))


def read_recipe_status(board: Board, camera: str) -> RecipeStatus | None:
    """The status of a camera's recipe; None before the first one."""
    return read_note(board, capture_name(camera), Note.RECIPE_STATUS, RecipeStatus)


def find_judge(board: Board, camera: CameraSettings, sha: str) -> RecipeIdentity:
    """The recipe that judged a part, by its sha256. For a part that was not judged, `sha` is empty and the
    recipe in force is returned; its `sha` is empty where none is."""
    status = read_recipe_status(board, camera.name)
    if status is None:
        return RecipeIdentity(camera.recipe, sha)
    in_force = status.in_force or RecipeIdentity(status.recipe.partition("@")[0], "")
    return (status.find_judge(sha) if sha else None) or in_force


def read_note(board: Board, worker: str, note: Note, kind: type[_T]) -> _T | None:
    """What a note in a worker's record holds; None for an empty one."""
    content = board.read_note(worker, note)
    return msgspec.msgpack.decode(content, type=kind) if content else None


# On disk


class ChangeoverDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a camera with the recipe that was last put in force over MQTT."""

    schema: int = SCHEMA
    recipe: str
    version: int | None = None
    """The version that was asked for; null: the one in force."""
    instead_of: str
    """The recipe in the settings at that time."""
    request_id: RequestId
    session: str
    number: int
    """The number of the request in that session."""
    utc: str
    after_set: str | None = None
    """The `request_id` of the set that was in force before (`monitor.line_state.recipe_set`)."""

    @property
    def asked(self) -> str:
        """`NAME` or `NAME@VERSION`, as it was asked for."""
        return join_version(self.recipe, self.version)


def save_changeover(folder: Path, camera: str, document: ChangeoverDocument) -> None:
    """Writes the camera's file. It is on disk when the function returns. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{camera}.json", msgspec.json.encode(document) + b"\n")


def load_changeover(folder: Path, camera: CameraSettings) -> ChangeoverDocument | None:
    """The camera's last changeover, alone or in a set; None when there is none, or when the settings' recipe
    has changed since.

    Raises ChangeoverError when a file can't be read: the parts on the belt are then not known.
    """
    found = _read_changeover(folder, camera)
    try:
        in_force = read_set(folder / SET_FILE)
    except RecipeSetError as error:
        raise ChangeoverError(str(error)) from None
    is_in_set = in_force is not None and camera.name in in_force.recipes
    if in_force is not None and is_in_set and (found is None or found.after_set != in_force.request_id):
        found = _take_from_set(in_force, camera.name)
    return found if found and found.instead_of == camera.recipe else None


def find_set_in_force(folder: Path) -> str | None:
    """The `request_id` of the set in force; None without one. Raises RecipeSetError."""
    found = read_set(folder / SET_FILE)
    return found.request_id if found else None


def put_set_in_force(folder: Path, cameras: Sequence[CameraSettings], document: SetDocument) -> None:
    """Renames the set into place: it is newer than every changeover of one camera before it.

    The last changeovers of the cameras that are not in the set become a part of it, since they would count
    as older than it. Raises ChangeoverError and OSError.
    """
    recipes, instead_of = dict(document.recipes), dict(document.instead_of)
    for camera in cameras:
        if camera.name not in recipes and (kept := load_changeover(folder, camera)):
            recipes[camera.name], instead_of[camera.name] = kept.asked, kept.instead_of
    whole = msgspec.structs.replace(document, recipes=recipes, instead_of=instead_of)
    write_set(folder / SET_FILE, whole)


def _take_from_set(in_force: SetDocument, camera: str) -> ChangeoverDocument:
    recipe, version = split_version(in_force.recipes[camera])
    return ChangeoverDocument(
        recipe=recipe,
        version=version,
        instead_of=in_force.instead_of.get(camera, ""),
        request_id=in_force.request_id,
        session="",
        number=0,
        utc=in_force.utc,
        after_set=in_force.request_id,
    )


def _read_changeover(folder: Path, camera: CameraSettings) -> ChangeoverDocument | None:
    """Raises ChangeoverError."""
    file = folder / f"{camera.name}.json"
    try:
        found = msgspec.json.decode(file.read_bytes(), type=ChangeoverDocument)
        check_name(found.recipe)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidNameError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ChangeoverError(
            f"{file}: can't tell which recipe was in force ({why}): set one over MQTT, or delete the file to "
            f"go back to recipe {camera.recipe!r}"
        ) from None
    return found


def delete_changeover(folder: Path, camera: str) -> bool:
    """Deletes the camera's file. Returns whether there was one. Raises OSError."""
    file = folder / f"{camera}.json"
    existed = file.exists()
    file.unlink(missing_ok=True)
    return existed


def find_recipe_to_load(folder: Path, camera: CameraSettings) -> str:
    """The recipe after a start of the line, as `NAME` or `NAME@VERSION`. Raises ChangeoverError."""
    found = load_changeover(folder, camera)
    return found.asked if found else camera.recipe
