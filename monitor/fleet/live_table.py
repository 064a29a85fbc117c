"""Shows a table that changes: drawn in place on a terminal, plain lines elsewhere.

It knows nothing of what is in the table.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO


class TableView(Protocol):
    """Where a table is shown."""

    def show(self, rows: Sequence[Sequence[str]], lines: Iterable[str]) -> None:
        """Shows the rows, or `lines` with what has changed in them."""


class PlainLines:
    """Writes the lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, rows: Sequence[Sequence[str]], lines: Iterable[str]) -> None:
        for line in lines:
            self._stream.write(f"{line}\n")
        self._stream.flush()


class RichTable:
    """Draws the rows in place by rich."""

    def __init__(self, live: Any, columns: Sequence[str]) -> None:
        self._live, self._columns = live, columns

    def show(self, rows: Sequence[Sequence[str]], lines: Iterable[str]) -> None:
        from rich.table import Table

        table = Table(*self._columns, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        self._live.update(table, refresh=True)


@contextmanager
def open_table(stream: TextIO, columns: Sequence[str]) -> Iterator[TableView]:
    """The view for this stream."""
    if not stream.isatty() or importlib.util.find_spec("rich") is None:
        yield PlainLines(stream)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream), auto_refresh=False, vertical_overflow="visible") as live:
        yield RichTable(live, columns)
