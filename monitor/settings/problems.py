"""Problems of the settings in words: where the value came from, which key, what is wrong, what is allowed.

It knows nothing of how the values were read. A message must never show a secret, so it shows no value but
names and numbers that the tables put into it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from monitor.names import NAME_PATTERN
from monitor.settings.tables import Settings, model_at, tables, unit_and_bounds
from monitor.settings.toml_text import KeyPath

PLAIN_WORDS = {
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "missing": "the key is missing; add it",
    "model_type": "must be a table",
    "path_type": "must be a path in quotes",
    "string_pattern_mismatch": "this text is not allowed",
    "string_type": "must be text in quotes",
    "too_long": "the list has too many values",
    "tuple_type": "must be a list",
}
"""Messages for errors that pydantic describes in Python's words."""
_WITH_UNIT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-zA-Z%]{1,7})\s*", re.ASCII)
_IN_OUR_WORDS = ("value_error", "two_cameras")
"""Errors whose message needs no addition."""


def explain(
    error: ValidationError, tree: Mapping[str, Any], find_origin: Callable[[KeyPath, str], str]
) -> list[str]:
    """One line for each problem. `tree` holds the values that were refused; `find_origin` returns where the
    value of a key came from, and for a table where the keys came from that the given message names."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        kind, path = problem["type"], problem["loc"]
        if kind == "default_factory_not_called":
            # The default needs another key's value; that value is wrong and has a line of its own.
            continue
        context = problem.get("ctx", {})
        path = (*path, *context.get("at", ()))
        if kind == "extra_forbidden":
            message = "unknown key" + _suggestion(path)
        elif kind in _IN_OUR_WORDS:
            message = problem["msg"].removeprefix("Value error, ")
        else:
            message = _brackets(path, tree) or _refused_value(
                kind, problem["msg"], path, find_value(tree, path)
            )
        shown = _show(() if kind == "two_cameras" else path, tree)
        message = message[0].lower() + message[1:]
        lines.append(": ".join(filter(None, [find_origin(path, message), shown, message])))
    # A list with several wrong values has one problem for each of them.
    return list(dict.fromkeys(lines))


def _refused_value(kind: str, said: str, path: KeyPath, value: object) -> str:
    """What is wrong with a value, by pydantic's kind of error and its words, and which values are allowed."""
    message = PLAIN_WORDS.get(kind) or said.replace("Input should", "the value must")
    if kind == "missing" and isinstance(path[-1], int):
        message = "the list has too few values"
    allowed = _allowed(path)
    if kind == "no_number" and isinstance(value, str):
        message += _advise_number(value, allowed, is_whole="whole" in message)
    return f"{message}; allowed: {allowed}" if allowed else message


def _advise_number(value: str, allowed: str, *, is_whole: bool) -> str:
    """How a number with its unit is written, as in `"2600 ms"`; empty for other texts. Only a number in the
    setting's own unit is repeated: in another one it would be another value."""
    found = _WITH_UNIT.fullmatch(value)
    if found is None:
        return ""
    number, unit = found.groups()
    if unit not in allowed.split() or (is_whole and not number.isdecimal()):
        return ", without quotes and unit"
    return f", without quotes and unit: write {number}"


def _show(path: KeyPath, tree: Mapping[str, Any]) -> str:
    """The key for people: `mqtt.port`, `camera 'top': roi`, `challenge.part number 2: expires`."""
    if len(path) > 2 and isinstance(path[2], int) and model_at(_names(path[:2])) is not None:
        row = f"{path[0]}.{path[1]} number {path[2] + 1}"
        return ": ".join([row, *(map(str, path[3:4]))])
    if len(path) < 2 or path[0] != "camera" or not isinstance(path[1], int):
        return ".".join(map(str, path))
    camera = find_value(tree, path[:2])
    name = camera.get("name") if isinstance(camera, dict) else None
    is_named = isinstance(name, str) and re.fullmatch(NAME_PATTERN, name)
    camera_shown = f"camera {name!r}" if is_named else f"camera number {path[1] + 1}"
    return ": ".join([camera_shown, *(map(str, path[2:3]))])


def find_value(tree: Any, path: KeyPath) -> Any:
    """The value at the path; None if there is none."""
    for step in path:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _brackets(path: KeyPath, tree: Mapping[str, Any]) -> str:
    """What is wrong with the brackets around a table's name; empty if that is not the problem."""
    value = find_value(tree, path)
    if path == ("camera",) and isinstance(value, dict):
        return "[camera] in single brackets; write [[camera]] in double brackets, once for each camera"
    if len(path) == 1 and path[0] in tables() and isinstance(value, list) and path != ("camera",):
        return f"[[{path[0]}]] in double brackets; write [{path[0]}]"
    return ""


def _allowed(path: KeyPath) -> str:
    keys = _names(path)
    if keys == ["camera"]:
        return "[[camera]] in double brackets, once for each camera"
    if len(keys) == 1:
        return f"[{keys[0]}] with keys below it" if keys[0] in tables() else ""
    model = model_at(keys[:2]) if len(keys) > 2 else tables().get(keys[0])
    field = model.model_fields.get(keys[2] if len(keys) > 2 else keys[1]) if model is not None else None
    return unit_and_bounds(field) if field else ""


def _names(path: KeyPath) -> list[str]:
    """The path without the places in lists."""
    return [key for key in path if isinstance(key, str)]


def _suggestion(path: KeyPath) -> str:
    """The known key with the most similar spelling, or the table that has this key, or all known keys."""
    table: type[BaseModel] | None = model_at(_names(path)[:-1]) if len(path) > 1 else None
    known = list((table or Settings).model_fields)
    key = str(path[-1]).lower().replace("-", "_")
    owners = [
        f"[[{name}]]" if name == "camera" else f"[{name}]"
        for name, model in tables().items()
        if key in model.model_fields
    ]
    if owners and key not in known:
        return f"; it belongs in {' or '.join(owners)}"
    if close := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}"
