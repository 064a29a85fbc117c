"""The result of teachings from the page: a version, with what people must know before it judges parts.

It knows nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.model.recipe_json import REFERENCE, Calibration, Document, Origin
from monitor.model.version_summary import VersionSummary, summarise
from monitor.teaching.teaching_job import Job, JobState
from monitor.training.oddest_images import lone_ratio
from monitor.training.operating_points import statement


@dataclass(frozen=True, slots=True)
class TaughtVersion:
    """The version that the last teaching or count has made; the newest one where that has made none."""

    summary: VersionSummary
    document: Document
    calibration: Calibration
    is_newest: bool
    """Whether the images beside the recipe are its own."""

    @property
    def origin(self) -> str:
        """What was done to make it, as in `is taught`."""
        lineage = self.document.lineage
        if lineage is not None and lineage.origin is not Origin.TRAINING:
            return "calibrated"
        return "taught" if self.document.student else "taught, by memory"

    @property
    def known_defects(self) -> int:
        """With how many known defects its escapes were counted."""
        return len(self.document.defect_scores.known) if self.document.defect_scores else 0

    @property
    def lone_ratio(self) -> float | None:
        """As `oddest_images.lone_ratio`, of the good parts that calibrated it."""
        return lone_ratio(self.calibration)

    @property
    def statement(self) -> str:
        """What the version rejects and lets pass, in one sentence, without the commands of a shell."""
        return statement(self.document, with_commands=False)


def find_taught(recipe: Path, job: Job | None) -> TaughtVersion | None:
    """The version that the job made of the recipe in that folder, else the newest one; None without one."""
    made = job.version if job is not None and job.state is JobState.DONE else None
    try:
        summaries = summarise(recipe)
    except LineMonitorError:
        # The page Recipes names the reason.
        return None
    if job is not None and job.state is JobState.RUNNING and job.is_committed:
        # The pictures beside the newest version are still being written.
        summaries = summaries[:-1]
    readable = [summary for summary in summaries if summary.document is not None]
    chosen = next((one for one in readable if one.version.number == made), readable[-1] if readable else None)
    if chosen is None or chosen.document is None:
        return None
    return TaughtVersion(
        chosen, chosen.document, chosen.document.calibration[REFERENCE], chosen is summaries[-1]
    )
