"""The result of a teaching is told without commands that the page's people can't run."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from monitor.review.taught_version import find_taught
from monitor.teaching.teaching_job import Job, JobState
from monitor.training.compare import Compare
from monitor.training.operating_points import state
from tests.real.parts import draft_recipe


def test_the_sentence_has_no_shell_command_also_where_the_recipe_has_one(tmp_path: Path) -> None:
    made = state(draft_recipe(tmp_path / "disc")).commit()
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
    assert "line-monitor" in taught.document.statement
    assert "it is not known how many defects would pass" in taught.statement
    assert "line-monitor" not in taught.statement


def test_the_newest_version_is_the_result_until_a_teaching_has_made_another(tmp_path: Path) -> None:
    draft = draft_recipe(tmp_path / "disc")
    first = draft.commit()
    assert find_taught(tmp_path / "plate", None) is None
    running = Job(recipe="disc", camera="top", compare=Compare.MEMORY, who="edda", started_utc="")
    ended = replace(running, state=JobState.CANCELLED)
    numbers = []
    for job in (None, running, ended):
        taught = find_taught(first.folder, job)
        numbers.append(taught.summary.version.number if taught else None)
    assert numbers == [1, 1, 1]
    draft.with_changes(statement="second").commit()
    writing = find_taught(first.folder, replace(running, is_committed=True))
    done = find_taught(first.folder, replace(running, state=JobState.DONE, version=2))
    assert writing is not None
    assert done is not None
    assert (writing.summary.version.number, done.summary.version.number) == (1, 2)
