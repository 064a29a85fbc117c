"""The result of a teaching is told without commands that the page's people can't run."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.review.taught_version import find_taught
from monitor.teaching.teaching_job import Job, JobState
from monitor.training.compare import Compare
from tests.real.parts import draft_recipe


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        (
            "It is not known how many would pass: give 10 or more images of bad parts: line-monitor "
            "calibrate disc --defects DIR.",
            "It is not known how many would pass: give 10 or more images of bad parts.",
        ),
        (
            "3 of 10 pass; with 5 %, 1 passes: line-monitor calibrate disc --overkill 0.05; drawn ones",
            "3 of 10 pass; with 5 %, 1 passes; drawn ones",
        ),
    ],
)
def test_the_sentence_has_no_shell_command(tmp_path: Path, statement: str, shown: str) -> None:
    made = draft_recipe(tmp_path / "disc").with_changes(statement=statement).commit()
    job = Job(
        recipe="disc",
        camera="top",
        compare=Compare.MEMORY,
        who="edda",
        started_utc="",
        state=JobState.DONE,
        version=made.number,
    )
    taught = find_taught(made.folder, job)
    assert taught is not None
    assert taught.statement == shown
