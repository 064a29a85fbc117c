"""The Parquet files of a rescored archive: their columns, and how they get to their place by day.

It knows nothing of scorers. A row is one image judged by one version of a recipe. The files of a rescoring
take their names at its end, so that an interrupted one leaves nothing that is counted twice.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.fleet.fleet_error import FleetError
from monitor.names import join_version

UNDATED = "undated"
"""The day of images whose path is not a snapshot's."""
DAY_FOLDER = "day="
_ROWS_A_FILE = 100_000
"""Rows of one day that are held before they are written."""
_DIGITS = 12
"""Digits of a version's sha256 in the names of files."""
_ROWS_HELD = 400_000
"""Rows of all days that are held: 100 to 150 MB, by the length of their paths."""


def make_schema() -> Any:
    """The columns. Consumers ignore columns that they don't know."""
    import pyarrow

    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    return pyarrow.schema(
        {
            "image": text,
            "captured_utc": text,
            "camera": text,
            "recipe": text,
            "version": whole,
            "recipe_sha": text,
            "score": number,
            "threshold": number,
            "verdict": text,
            "reason": text,
            "error": text,
            "label": text,
            # What the line decided then, as far as the image is a snapshot.
            "line_recipe": text,
            "line_version": whole,
            "line_recipe_sha": text,
            "line_score": number,
            "line_threshold": number,
            "line_verdict": text,
        }
    )


@dataclass(frozen=True, order=True)
class FileKey:
    """What the rows of one file share."""

    day: str
    recipe: str
    version: int
    recipe_sha: str

    @property
    def prefix(self) -> str:
        """How the names of the version's files begin. `@` is in no recipe's name, so no prefix begins
        another one."""
        return f"{join_version(self.recipe, self.version)}-{self.recipe_sha[:_DIGITS]}-"


class DayFiles:
    """Writes rows into one folder a day below `folder`, first under names that nobody reads."""

    def __init__(self, folder: Path, token: str) -> None:
        self._folder, self._token = folder, token
        self.writing = folder / f".rescoring-{token}"
        """The folder for all that is removed at the end."""
        self._held: dict[FileKey, list[Any]] = {}
        self._rows: dict[FileKey, int] = {}
        self._files: dict[Path, Path] = {}
        self._prefixes: set[str] = set()

    def add(self, table: Any) -> None:
        """Takes rows of any days. Raises FleetError."""
        for key, rows in split_rows(table):
            self._held.setdefault(key, []).append(rows)
            self._rows[key] = self._rows.get(key, 0) + rows.num_rows
            self._prefixes.add(key.prefix)
            if self._rows[key] >= _ROWS_A_FILE:
                self._write(key)
        while sum(self._rows.values()) > _ROWS_HELD:
            self._write(max(self._rows, key=lambda key: self._rows[key]))

    def _write(self, key: FileKey) -> None:
        import pyarrow
        import pyarrow.parquet

        rows = pyarrow.concat_tables(self._held.pop(key))
        del self._rows[key]
        name = f"{key.prefix}{self._token}-{len(self._files):05d}.parquet"
        written = self.writing / key.day / name
        with self._explain_errors():
            written.parent.mkdir(parents=True, exist_ok=True)
            pyarrow.parquet.write_table(rows, written, compression="zstd")
        self._files[written] = self._folder / f"{DAY_FOLDER}{key.day}" / name

    def commit(self) -> None:
        """Puts the files in place of those that an earlier run of the same versions wrote. Raises
        FleetError."""
        for key in sorted(self._held):
            self._write(key)
        earlier = [
            file
            for prefix in self._prefixes
            for file in self._folder.glob(f"{DAY_FOLDER}*/{prefix}*.parquet")
        ]
        with self._explain_errors():
            for written, final in self._files.items():
                final.parent.mkdir(parents=True, exist_ok=True)
                written.replace(final)
            for file in earlier:
                file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes what was not put in place."""
        shutil.rmtree(self.writing, ignore_errors=True)

    @contextlib.contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FleetError(
                f"{self._folder}: can't be written: {error.strerror or error}: free some space, or give "
                "another -o DIR"
            ) from None


def split_rows(table: Any) -> Iterator[tuple[FileKey, Any]]:
    """The rows of a table by what the rows of one file share."""
    import pyarrow
    import pyarrow.compute

    captured = table.column("captured_utc")
    days = pyarrow.compute.fill_null(pyarrow.compute.utf8_slice_codeunits(captured, 0, 10), UNDATED)
    dated = table.append_column("day", days)
    columns = ["day", "recipe", "version", "recipe_sha"]
    for group in dated.group_by(columns).aggregate([]).to_pylist():
        key = FileKey(**group)
        is_own = pyarrow.compute.equal(days, key.day)
        for column in columns[1:]:
            is_same = pyarrow.compute.equal(table.column(column), group[column])
            is_own = pyarrow.compute.and_(is_own, is_same)
        yield key, table.filter(is_own)
