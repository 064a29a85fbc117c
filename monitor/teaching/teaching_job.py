"""A teaching or a count from the page as a file, `job.json`, which outlives the service.

It knows nothing of processes. A job whose file says `running` while no process works at it was interrupted:
the next start of the page takes it up again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from monitor.system.atomic_file import write_whole
from monitor.teaching.teaching_folder import TeachingError
from monitor.training.compare import Compare

FILE = "job.json"
MOST_STARTS = 5
"""A job that was started so often without an end is not taken up by itself any more: it may be what ends the
service."""


class JobState(StrEnum):
    """The words are in the file and never change."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class JobKind(StrEnum):
    """What the job makes. The words are in the file and never change."""

    TEACH = "teach"
    COUNT = "count"
    """A version like its base that states how many known defects pass."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`job.json`. The schema only gains fields; unknown fields are ignored."""

    schema: Literal[1] = 1
    recipe: str
    camera: str
    compare: Compare
    who: str
    started_utc: str
    state: JobState = JobState.RUNNING
    starts: int = 1
    """How often its process was started, since a person asked for it last, less the orderly stops."""
    is_committed: bool = False
    """Whether its version of the recipe is on disk."""
    version: int | None = None
    ended_utc: str | None = None
    message: str = ""
    """Why it failed, in one line."""
    oddest: tuple[str, ...] = ()
    """The names of the good images that scored highest in the last teaching that was done, the highest
    first."""
    oddest_scores: tuple[float, ...] = ()
    """Their scores in thresholds; empty in files from before these were kept."""
    lines: tuple[str, ...] = ()
    """The last lines that the training printed."""
    images: tuple[str, ...] = ()
    """The names of the good images from which it was started or resumed last."""
    unfinished_student: Job | None = None
    """The teaching of a student that had not ended when this job, of a memory alone or a count, was
    started."""
    kind: JobKind = JobKind.TEACH
    base: int | None = None
    """The number of the version whose escapes are counted."""

    @property
    def resumable(self) -> Job | None:
        """The teaching that a person can start again where it ended, unless a process works at it."""
        if self.unfinished_student is not None:
            return self.unfinished_student
        return None if self.state is JobState.DONE or self.kind is JobKind.COUNT else self

    def count_changed(self, names: Collection[str]) -> int:
        """How many good images were added or removed since it was started; a student begins anew then."""
        return len(set(self.images) ^ set(names)) if self.images else 0


def read_job(folder: Path) -> Job | None:
    """The job in a recipe's teaching folder; None without one. Raises TeachingError."""
    file = folder / FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Job)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TeachingError(f"{file} can't be read ({why}): delete it, then teach again") from None


def write_job(folder: Path, job: Job) -> None:
    """Raises TeachingError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FILE, msgspec.json.format(msgspec.json.encode(job), indent=1) + b"\n")
    except OSError as error:
        raise TeachingError(f"can't write {folder / FILE}: {error.strerror}") from None


def find_running(root: Path) -> Iterator[tuple[Path, Job]]:
    """The jobs whose files say that they run, each with its folder; `root` is the folder of all recipes. A
    file that can't be read is left out: the recipe's page names it."""
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            job = read_job(folder)
        except TeachingError:
            continue
        if job is not None and job.state is JobState.RUNNING and job.recipe == folder.name:
            yield folder, job
