"""A teaching says which of its steps it is at, and what it waits for."""

from __future__ import annotations

import pytest

from monitor.review.teaching_progress import describe_progress
from monitor.teaching.teaching_job import Job, JobKind
from monitor.teaching.training_messages import ProgressReport
from monitor.training.compare import Compare

MEMORY = Job(recipe="plate", camera="top", compare=Compare.MEMORY, who="edda", started_utc="")
BOTH = Job(recipe="plate", camera="top", compare=Compare.BOTH, who="edda", started_utc="")
COUNT = Job(
    recipe="plate", camera="top", compare=Compare.MEMORY, who="edda", started_utc="", kind=JobKind.COUNT
)


@pytest.mark.parametrize(
    ("job", "has_defects", "name", "step"),
    [
        (MEMORY, False, "memory", "Step 2 of 3: Filling the memory"),
        (MEMORY, True, "memory", "Step 2 of 4: Filling the memory"),
        (BOTH, True, "train", "Step 2 of 5: Teaching the student, epochs"),
        (BOTH, False, "calibrate torch-f32", "Step 4 of 4: Setting the threshold, images (torch-f32)"),
        (COUNT, True, "score known defects", "Step 1 of 1: Scoring the known defects"),
        (MEMORY, False, "presence", "presence"),
    ],
)
def test_the_step_has_its_number(job: Job, has_defects: bool, name: str, step: str) -> None:
    report = ProgressReport(step=name, done=1, total=2)
    found = describe_progress(job, report, has_defects=has_defects, silence_s=0.0)
    assert (found.step, found.wait) == (step, "")


def test_each_wait_is_named() -> None:
    loading = describe_progress(MEMORY, None, has_defects=False, silence_s=130.0)
    assert loading.step == "Before step 1 of 3: its programs are being loaded"
    assert loading.wait.startswith(
        "Nothing new for 2 min 10 s: it works only in the time that the line leaves"
    )
    done = ProgressReport(step="memory", done=168, total=168)
    found = describe_progress(MEMORY, done, has_defects=False, silence_s=1.0)
    assert found.wait == "Step 3, setting the threshold, is being prepared."
    last = ProgressReport(step="calibrate", done=9, total=9)
    assert "What follows" in describe_progress(MEMORY, last, has_defects=False, silence_s=1.0).wait
