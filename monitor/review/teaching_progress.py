"""How far a teaching is, in words for its page: which step of how many, and what it waits for.

It knows nothing of processes: it is a pure function of the job and of what its process has reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.teaching.teaching_job import Job, JobKind
from monitor.teaching.training_messages import ProgressReport

SILENT_S = 5.0
"""Seconds without a report after which the page names the wait."""
_WORDS = {
    "read": "Reading the images",
    "train": "Teaching the student, epochs",
    "memory": "Filling the memory",
    "calibrate": "Setting the threshold, images",
    "score": "Scoring the known defects",
}
"""The steps in words, by the first word of their names; others are shown by their names."""


@dataclass(frozen=True, slots=True)
class TeachingProgress:
    """What the page shows of a job that works."""

    step: str
    """As in `Step 2 of 4: Filling the memory`."""
    done: float = 0.0
    total: int = 0
    """0 before the first step has begun."""
    time_left: str = ""
    wait: str = ""
    """What it waits for; empty while it reports."""


def list_steps(job: Job, *, has_defects: bool) -> Sequence[str]:
    """The names of the job's steps, in order."""
    if job.kind is JobKind.COUNT:
        return ("score",)
    return (
        "read",
        *(("train",) if job.compare.has_student else ()),
        *(("memory",) if job.compare.has_memory else ()),
        "calibrate",
        *(("score",) if has_defects else ()),
    )


def describe_progress(
    job: Job, report: ProgressReport | None, *, has_defects: bool, silence_s: float
) -> TeachingProgress:
    """What the page shows of a job whose process has reported that last, so many seconds ago."""
    steps = list_steps(job, has_defects=has_defects)
    waits = ""
    if silence_s >= SILENT_S:
        waits = (
            f"Nothing new for {_tell_time(silence_s)}: it works only in the time that the line leaves of "
            "this computer."
        )
    if report is None:
        return TeachingProgress(f"Before step 1 of {len(steps)}: its programs are being loaded", wait=waits)
    name, _, more = report.step.partition(" ")
    words = _WORDS.get(name, report.step)
    if name == "calibrate" and more:
        # One pass for each way in which this machine can run the recipe.
        words = f"{words} ({more})"
    if name not in steps:
        return TeachingProgress(words, report.done, report.total, report.time_left, waits)
    number = steps.index(name) + 1
    if report.done >= report.total:
        following = (
            f"Step {number + 1}, {_WORDS[steps[number]].partition(',')[0].lower()}, is being prepared."
            if number < len(steps) and name != "calibrate"
            else "What follows is being prepared."
        )
        waits = f"{following} {waits}".strip()
    return TeachingProgress(
        f"Step {number} of {len(steps)}: {words}", report.done, report.total, report.time_left, waits
    )


def _tell_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
