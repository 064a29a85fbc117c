"""The manifest of `fleet train`: which recipes are taught, from which images, with how many processors.

It knows nothing of Ray or of training: each entry becomes the arguments of `line-monitor train`. Messages
name the table, the key and the fix.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError

from monitor.fleet.fleet_error import FleetError, require_packages
from monitor.names import NAME_PATTERN, NAME_RULE
from monitor.settings.problems import PLAIN_WORDS
from monitor.settings.toml_text import TomlError, decode, find_line, parse

PARQUET = ".parquet"
TABLE = "recipe"
_PATHS = ("images", "empty", "teacher_weights", "defects")
"""Keys whose relative paths start at the manifest's folder."""

_Text = Annotated[str, StringConstraints(min_length=1)]
_SIZE = r"\d{1,5}([xX]\d{1,5})?"
_Tile = Annotated[str, StringConstraints(pattern=rf"^{_SIZE}$")]
_Size = Annotated[str, StringConstraints(pattern=rf"^(auto|{_SIZE})$")]
_Count = Annotated[int, Field(ge=1)]


class ManifestEntry(BaseModel):
    """One table `[[recipe]]` of a manifest, or one row. The keys other than `cpus` and `gpus` are options of
    `line-monitor train`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    images: _Text
    empty: _Text | None = None
    teacher: _Text | None = None
    teacher_weights: _Text | None = None
    compare: Literal["student", "memory", "both"] | None = None
    size: _Count | _Size | None = None
    smallest_defect: _Count | None = None
    tile: _Count | _Tile | None = None
    overlap: Annotated[int, Field(ge=0)] | None = None
    epochs: _Count | None = None
    overkill: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    defects: _Text | None = None
    part_of: _Text | None = None
    as_paper: bool = False
    extrapolate: bool = False
    int8: bool | None = None
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    """The threads of the training, and the processors that Ray keeps for it."""
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """1: the training runs on a GPU of its own."""


_FIXES = {
    "name": f"use {NAME_RULE}",
    "images": "write the path of a folder of good images in quotes",
    "compare": 'use "student", "memory" or "both"',
    "size": 'use 256, "1024x512" (width x height) or "auto"',
    "tile": 'use 256 or "1024x512" (width x height)',
    "overkill": "use a share above 0 and below 1, as 0.01",
    "seed": f"use a whole number from 0 to {2**32 - 1}",
    "cpus": "use a whole number from 1 to 1024",
    "gpus": "use 0 or 1: a training uses at most one GPU",
}
"""What may stand at a key, where pydantic's words alone do not say it."""


def read_manifest(file: Path) -> tuple[ManifestEntry, ...]:
    """The entries of a TOML or Parquet file, with absolute paths. Raises FleetError."""
    tables, text = (_read_parquet(file), "") if file.suffix == PARQUET else _read_toml(file)
    return check_tables(tables, file, text)


def check_tables(tables: Sequence[Any], file: Path, text: str = "") -> tuple[ManifestEntry, ...]:
    """The entries of the tables. `text` is the TOML that they came from, for the numbers of lines; empty for
    rows. Raises FleetError with one line for each problem."""
    entries: list[ManifestEntry] = []
    problems: list[str] = []
    for number, table in enumerate(tables):
        try:
            entry = ManifestEntry.model_validate(table)
        except ValidationError as error:
            problems += _explain(error, file, text, number, table)
        else:
            entries.append(entry.model_copy(update=_absolute_paths(entry, file.absolute().parent)))
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    problems += [
        f"{file}: recipe {name!r}: name: given more than once: give each recipe a name of its own"
        for name in twice
    ]
    if not tables:
        problems.append(f"{file}: no recipe in it: write a table [[{TABLE}]] with name and images for each")
    if problems:
        raise FleetError("\n".join(problems))
    return tuple(entries)


def train_arguments(entry: ManifestEntry) -> list[str]:
    """The arguments of `line-monitor train` that teach the entry's recipe."""
    arguments = ["train", entry.name, "--device", "cuda" if entry.gpus else "cpu"]
    for key, value in entry.model_dump(exclude={"name", "cpus", "gpus"}).items():
        option = f"--{key.replace('_', '-')}"
        if key == "int8":
            arguments += [] if value is None else ["--int8" if value else "--no-int8"]
        elif isinstance(value, bool):
            arguments += [option] if value else []
        elif value is not None:
            # One word, as a value may begin with a dash.
            arguments.append(f"{option}={value}")
    return arguments


def explain_in_keys(message: str) -> str:
    """A message about the options of `train` in the words of a manifest: `--part-of` is its key `part_of`."""
    return re.sub(r"--([a-z][a-z0-9-]*)", lambda option: option[1].replace("-", "_"), message)


def _absolute_paths(entry: ManifestEntry, folder: Path) -> dict[str, str]:
    given = {key: getattr(entry, key) for key in _PATHS}
    return {key: str(folder / value) for key, value in given.items() if value is not None}


def _read_toml(file: Path) -> tuple[Sequence[Any], str]:
    try:
        text = decode(file.read_bytes())
        tree = parse(text)
    except OSError as error:
        raise FleetError(f"{file}: the manifest can't be read: {error.strerror or error}") from None
    except TomlError as error:
        raise FleetError(f"{_place(file, error.line)}: {error}") from None
    tables = tree.pop(TABLE, [])
    for key in tree:
        line = find_line(text, (key,))
        raise FleetError(
            f"{_place(file, line)}: {key}: unknown table: a manifest has only tables [[{TABLE}]]"
        )
    if not isinstance(tables, list):
        raise FleetError(f"{file}: [{TABLE}] in single brackets: write [[{TABLE}]], once for each recipe")
    return tables, text


def _read_parquet(file: Path) -> Sequence[Any]:
    require_packages("pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    except OSError as error:
        raise FleetError(f"{file}: the manifest can't be read: {error.strerror or error}") from None
    except pyarrow.ArrowException as error:
        raise FleetError(
            f"{file}: not a Parquet file ({str(error).splitlines()[0]}): write it again"
        ) from None
    # An empty cell is a key that is not given.
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def _explain(error: ValidationError, file: Path, text: str, number: int, table: Any) -> Iterator[str]:
    """One line for each refused key of a table."""
    name = table.get("name") if isinstance(table, dict) else None
    shown = f"recipe {name!r}" if isinstance(name, str) else f"recipe number {number + 1}"
    seen = set()
    for problem in error.errors(include_url=False, include_input=False):
        key = str(problem["loc"][0]) if problem["loc"] else TABLE
        # A key of two kinds has a problem for each of them.
        if key in seen:
            continue
        seen.add(key)
        place = _place(file, find_line(text, (TABLE, number, key))) if text else f"{file} row {number + 1}"
        yield f"{place}: {shown}: {key}: {_explain_key(key, problem['type'], problem['msg'])}"


def _explain_key(key: str, kind: str, said: str) -> str:
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(key.lower().replace("-", "_"), ManifestEntry.model_fields, n=1)
        known = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(ManifestEntry.model_fields)}"
        return f"unknown key: {known}"
    words = PLAIN_WORDS.get(kind) or said.replace("Input should", "must").replace("String should", "must")
    fix = f": {_FIXES[key]}" if key in _FIXES else ""
    return f"{words[0].lower()}{words[1:]}{fix}"


def _place(file: Path, line: int) -> str:
    return f"{file} line {line}" if line else str(file)
