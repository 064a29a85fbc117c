"""How commands print entries: as a table of columns or as JSON lines, also into a pipe that is closed early.

It knows nothing of what the entries are.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import msgspec

_MAX_COLUMN_WIDTH = 60


def print_table(rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """Print the rows in columns. A cell longer than 60 characters moves the rest of its row."""
    widths = [min(_MAX_COLUMN_WIDTH, max(map(len, column))) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip(), file=out)


def print_json(entries: Iterable[msgspec.Struct], out: TextIO) -> None:
    """Print one JSON object a line."""
    for entry in entries:
        print(msgspec.json.encode(entry).decode(), file=out)


@contextlib.contextmanager
def ending_with_its_reader() -> Iterator[None]:
    """Ends the block without an error where the program that reads the output has ended, as in `| head`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # At exit Python writes the rest of its buffer, which would fail again, so the output goes to
        # /dev/null from here on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
