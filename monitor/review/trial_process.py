"""The process that tries a version before a person signs for it: `python -m monitor.review.trial_process`.

It builds the version's networks and scores parts that are labelled as real defects. It knows nothing of HTTP.
It is a process of its own because importing torch holds all threads of a Python process, for minutes on a
busy machine: the page must answer meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from drivers.image_file import Image, ImageError, decode
from monitor.errors import LineMonitorError
from monitor.line_state.worker_process import die_with, ignore_signals_of_the_line
from monitor.model.recipe_version import RecipeVersion
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles
from monitor.system import logs

if TYPE_CHECKING:
    from monitor.inference.scorer import ScoreResult


class TrialStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the process needs to begin."""

    parent: int
    """The id of the page's process."""
    report_to: int
    """The file descriptor of a pipe."""
    document: str
    """The file of the version's document."""
    snapshots: str
    defects: tuple[tuple[str, str, str], ...]
    """The fields of each part's `Key`."""


class TrialReport(msgspec.Struct, frozen=True, kw_only=True):
    """One line on the pipe: a score, or the end."""

    place: int = 0
    """The number of the part in `TrialStart.defects`."""
    score: float | None = None
    """None where the part's picture can't be read."""
    is_end: bool = False
    error: str = ""
    """At the end: why the version can't be used; empty where it can."""


def try_version(start: TrialStart, send: Callable[[TrialReport], None]) -> None:
    """Tries the version and reports each score, then the end."""
    from monitor.inference.scorer import Scorer

    try:
        scorer = Scorer(
            RecipeVersion.load(Path(start.document)), device="cpu", runtime="torch", precision="f32"
        )
        files = SnapshotFiles(Path(start.snapshots))
        for place, fields in enumerate(start.defects):
            send(TrialReport(place=place, score=_score(scorer.inspect, files, Key(*fields))))
    except LineMonitorError as error:
        send(TrialReport(is_end=True, error=str(error)))
    else:
        send(TrialReport(is_end=True))


def _score(
    inspect: Callable[[Sequence[Image]], Sequence[ScoreResult | None]], files: SnapshotFiles, key: Key
) -> float | None:
    from monitor.training.image_scores import EMPTY

    try:
        (result,) = inspect([decode(files.read(key, ".png"))])
    except (NoSuchSnapshot, ImageError, ValueError):
        return None
    return EMPTY if result is None else float(result.score)


def main() -> None:
    """Tries the version of the start data."""
    ignore_signals_of_the_line()
    start = msgspec.json.decode(sys.stdin.buffer.read(), type=TrialStart)
    die_with(start.parent)
    logs.configure()
    import torch

    torch.set_num_threads(1)
    with os.fdopen(start.report_to, "wb") as pipe:
        try_version(start, lambda report: _write(pipe, report))


def _write(pipe: BinaryIO, report: TrialReport) -> None:
    pipe.write(msgspec.json.encode(report) + b"\n")
    pipe.flush()


if __name__ == "__main__":
    main()
