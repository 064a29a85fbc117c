"""What the page's process tells its training process, and what that reports: JSON, a message a line.

It knows nothing of processes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from monitor.teaching.teaching_job import JobKind
from monitor.training.compare import Compare


class TrainingStart(msgspec.Struct, frozen=True, kw_only=True):
    """The start data, on the process's standard input."""

    parent: int
    """The process id of the page."""
    report_to: int
    """The file descriptor of the pipe for reports."""
    settings: dict[str, Any]
    recipe: str
    camera: str
    compare: Compare
    who: str
    threads: int
    kind: JobKind = JobKind.TEACH
    base: int | None = None
    """The number of the version whose escapes are counted."""


class ProgressReport(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far the present step is."""

    step: str
    done: float
    total: int
    time_left: str = ""
    note: str = ""


class LineReport(msgspec.Struct, frozen=True, kw_only=True, tag="line"):
    """A line for a person."""

    text: str


class CommitReport(msgspec.Struct, frozen=True, kw_only=True, tag="commit"):
    """The version is on disk; images beside it may follow."""


class EndReport(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The training has ended by itself, with a version or with the reason why not."""

    version: int | None = None
    message: str = ""
    oddest: tuple[str, ...] = ()
    """The names of the good images that scored highest, the highest first."""
    oddest_scores: tuple[float, ...] = ()
    """Their scores in thresholds."""


Report = ProgressReport | LineReport | CommitReport | EndReport


def encode_report(report: Report) -> bytes:
    """The report's line."""
    return msgspec.json.encode(report) + b"\n"


def decode_report(line: bytes) -> Report:
    """Raises ValueError for a line that is no report."""
    try:
        found: Report = msgspec.json.decode(line, type=Report)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no report of a training: {error}") from None
    return found
