"""Writes the tables of config/README.md from the settings' models: `python -m tests.settings_table`."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from monitor.settings import CameraSettings, Choice, rows_of, tables, unit_and_bounds

DOCUMENT = Path(__file__).resolve().parents[1] / "config/README.md"
MARK = "<!-- Everything below this line is made by: python -m tests.settings_table -->\n"
COLUMNS = ("key", "type", "default", "unit and bounds", "meaning")
_TYPES = {
    bool: "true or false",
    date: "date",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret text",
}


def document(text: str) -> str:
    """The document with its tables made again; the text above the mark stays as it is."""
    introduction, mark, _ = text.partition(MARK)
    assert mark, f"{DOCUMENT} has no line {MARK!r}"
    return introduction + mark + "".join(_sections())


def _sections() -> Iterator[str]:
    for name, model in tables().items():
        yield _section(f"[[{name}]]" if model is CameraSettings else f"[{name}]", model)
        for key, field in model.model_fields.items():
            if (inner := rows_of(field)) is not None:
                yield _section(f"[[{name}.{key}]]", inner)


def _section(heading: str, model: type[BaseModel]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *_rows(model)]
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"\n## `{heading}`\n\n{model.__doc__}\n\n{lines}"


def _rows(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for key, field in model.model_fields.items():
        annotation = _without_none(field.annotation)
        bounds, meaning = unit_and_bounds(field), " ".join(str(field.description).split())
        if isinstance(annotation, type) and issubclass(annotation, Choice):
            bounds = " ".join(f'`"{choice.value}"`' for choice in annotation)
            meaning += "".join(f' `"{choice.value}"`: {choice.meaning}.' for choice in annotation)
        yield f"`{key}`", _type(annotation), _default(field), bounds, f"**{field.title}.** {meaning}"


def _without_none(annotation: Any) -> Any:
    """`X` of the annotation `X | None`."""
    return get_args(annotation)[0] if get_origin(annotation) is types.UnionType else annotation


def _type(annotation: Any) -> str:
    if get_origin(annotation) is dict:
        return "tables"
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)[0]
        if inner is str:
            return "list of texts"
        if issubclass(inner, BaseModel):
            return "tables"
        return f"list of {len(get_args(annotation))} whole numbers"
    return "choice" if issubclass(annotation, Choice) else _TYPES[annotation]


def _default(field: FieldInfo) -> str:
    """The default as it stands in a TOML file."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default" in extra:
        return str(extra["default"])
    if field.is_required():
        return "required"
    if field.default in (None, {}, ()):
        return "none"
    if isinstance(field.default, tuple):
        return f"`{json.dumps(field.default)}`"
    if isinstance(field.default, bool):
        return f"`{json.dumps(field.default)}`"
    number = isinstance(field.default, int | float)
    return f"`{field.default if number else json.dumps(str(field.default))}`"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
