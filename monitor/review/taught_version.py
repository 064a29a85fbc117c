"""What a teaching from the page has made: its version, with what people must know before it judges parts.

It knows nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.model.recipe_json import REFERENCE, Calibration, Document
from monitor.model.version_summary import VersionSummary, summarise
from monitor.teaching.teaching_job import Job, JobState
from monitor.training.operating_points import statement


@dataclass(frozen=True, slots=True)
class TaughtVersion:
    """The version of a teaching that is done."""

    summary: VersionSummary
    document: Document
    calibration: Calibration
    is_signed: bool
    """Whether a person has put it in force."""
    is_newest: bool
    """Whether the images beside the recipe are its own."""

    @property
    def statement(self) -> str:
        """What the version rejects and lets pass, in one sentence, without the commands of a shell."""
        return statement(self.document, with_commands=False)


def find_taught(recipe: Path, job: Job | None) -> TaughtVersion | None:
    """The version that the job made of the recipe in that folder; None where there is none, or no longer."""
    if job is None or job.state is not JobState.DONE:
        return None
    try:
        summaries = summarise(recipe)
    except LineMonitorError:
        # The page Recipes names the reason.
        return None
    for summary in summaries:
        if summary.version.number == job.version and summary.document is not None:
            signed = summary.promotion is not None and summary.promotion.approval.is_signed
            return TaughtVersion(
                summary,
                summary.document,
                summary.document.calibration[REFERENCE],
                signed,
                summary is summaries[-1],
            )
    return None
