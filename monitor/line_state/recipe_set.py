"""A set of recipes on disk: the changeover of several cameras at once, all or none.

It loads no recipe. The command line and the page write a request to disk; a request over MQTT is on the board
(`monitor.line_state.set_request`). The scoring worker loads all recipes of the set beside the line and then
renames the set into place, which puts it in force for all cameras. A changeover of one camera after that
names the set that it follows: a camera's file that names another set is older than the set.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from monitor.errors import LineMonitorError
from monitor.names import InvalidNameError, split_version
from monitor.system.atomic_file import write_whole
from monitor.verdict import SCHEMA

# No camera's name has an underscore: these are no files of a camera.
REQUEST_FILE = "_set_request.json"
SET_FILE = "_set.json"


class RecipeSetError(LineMonitorError):
    """The set can't be used. The message is one line with the fix."""


class SetDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A set that is asked for, or in force."""

    schema: int = SCHEMA
    name: str
    recipes: dict[str, str]
    """By camera, `NAME` or `NAME@VERSION`."""
    instead_of: dict[str, str]
    """By camera, the recipe in the settings at that time."""
    request_id: str
    who: str
    utc: str


def write_set(file: Path, document: SetDocument) -> None:
    """Writes a request or a set in force. It is on disk when the function returns. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, msgspec.json.encode(document) + b"\n")


def read_set(file: Path) -> SetDocument | None:
    """A request or a set in force; None without one. Raises RecipeSetError."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=SetDocument)
        for asked in found.recipes.values():
            split_version(asked)
        return found
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidNameError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RecipeSetError(
            f"{file}: can't tell which set was asked for ({why}): change over again, or delete the file"
        ) from None
