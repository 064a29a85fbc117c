"""A teaching ends with its version or with one line that says why not, and outlives the page.

The training process is replaced by a program that reports as it does: a real training takes seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitor.settings import LineSettings, Settings, SnapshotSettings
from monitor.teaching import job_runner
from monitor.teaching.job_runner import TeachingJobs
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder
from monitor.teaching.teaching_job import MOST_STARTS, Job, JobKind, JobState, read_job, write_job
from monitor.training.compare import Compare

PROGRAM = """
import json, os, signal, sys, time
start = json.load(sys.stdin)
def report(**fields):
    os.write(start["report_to"], json.dumps(fields).encode() + b"\\n")
report(type="progress", step="train", done=1, total=2)
report(type="line", text=start["recipe"])
"""
COMMIT = 'report(type="commit")\n'
END = COMMIT + 'report(type="end", version=3, oddest=["a.png"])\n'
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
report(type="line", text="stays")
time.sleep(60)
"""
HANG = "time.sleep(60)\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(line=LineSettings(data=tmp_path), snapshots=SnapshotSettings(min_free_gb=0))


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return tmp_path / "teaching/plate"


class Program:
    """Starts the program in place of the training process."""

    def __init__(self, then: str) -> None:
        self.then = then
        self.environment: dict[str, str] = {}

    def __call__(self, module: str, pass_fds: tuple[int, ...] = (), **more: str) -> subprocess.Popen[bytes]:
        self.environment = more
        command = [sys.executable, "-S", "-E", "-c", PROGRAM + self.then]
        return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=pass_fds)


def await_end(jobs: TeachingJobs) -> None:
    until = time.monotonic() + 10
    while jobs.running is not None and time.monotonic() < until:
        time.sleep(0.005)
    assert jobs.running is None


def await_progress(jobs: TeachingJobs, line: str = "plate") -> None:
    until = time.monotonic() + 10
    while not (jobs.running and line in jobs.running.lines) and time.monotonic() < until:
        time.sleep(0.005)
    assert jobs.running is not None
    assert jobs.running.lines[-1] == line


def start(jobs: TeachingJobs) -> Job:
    return jobs.start("plate", "top", Compare.MEMORY, "edda")


def ended(folder: Path) -> Job:
    job = read_job(folder)
    assert job is not None
    return job


def test_a_teaching_that_is_done_names_its_version_and_its_oddest_pictures(
    settings: Settings, plate: Path
) -> None:
    program = Program(END)
    jobs = TeachingJobs(settings, program)
    start(jobs)
    await_end(jobs)
    job = ended(plate)
    assert (job.state, job.version, job.oddest, job.lines) == (JobState.DONE, 3, ("a.png",), ("plate",))
    assert program.environment["OMP_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) - 1))


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ('report(type="end", message="no good images")', "no good images"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "memory ran out"),
        ("sys.exit(1)", "the service's log has the reason"),
        ('os.write(start["report_to"], b"{"); sys.exit(1)', "the service's log has the reason"),
    ],
)
def test_a_teaching_that_fails_says_why(settings: Settings, plate: Path, then: str, message: str) -> None:
    jobs = TeachingJobs(settings, Program(then))
    start(jobs)
    await_end(jobs)
    assert ended(plate).state is JobState.FAILED
    assert message in ended(plate).message


def test_a_cancelled_teaching_can_be_resumed_and_one_works_at_a_time(settings: Settings, plate: Path) -> None:
    program = Program(HANG)
    jobs = TeachingJobs(settings, program)
    start(jobs)
    await_progress(jobs)
    with pytest.raises(TeachingError, match="plate is being taught"):
        jobs.start("disc", "top", Compare.MEMORY, "edda")
    with pytest.raises(TeachingError, match="another page"):
        start(TeachingJobs(settings, program))
    jobs.cancel("plate")
    await_end(jobs)
    assert ended(plate).state is JobState.CANCELLED
    program.then = END
    jobs.resume("plate", "otto")
    await_end(jobs)
    assert (ended(plate).state, ended(plate).who) == (JobState.DONE, "otto")
    with pytest.raises(TeachingError, match="can be resumed"):
        jobs.resume("plate", "otto")


def test_a_cancel_is_on_disk_before_the_process_has_ended(
    settings: Settings, plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "_STOP_S", 0.01)
    jobs = TeachingJobs(settings, Program(STUBBORN))
    start(jobs)
    await_progress(jobs, "stays")
    jobs.cancel("plate")
    assert jobs.running is not None
    assert ended(plate).state is JobState.CANCELLED
    jobs.stop()
    assert ended(plate).state is JobState.CANCELLED
    process = jobs.running._process
    assert process is not None
    process.kill()
    await_end(jobs)
    assert ended(plate).state is JobState.CANCELLED


def test_a_version_that_was_committed_before_the_cancel_is_no_cancelled_teaching(
    settings: Settings, plate: Path
) -> None:
    jobs = TeachingJobs(settings, Program(COMMIT + STUBBORN.replace("SIG_IGN", "SIG_DFL")))
    start(jobs)
    await_progress(jobs, "stays")
    jobs.cancel("plate")
    await_end(jobs)
    assert ended(plate).state is JobState.DONE


def test_the_page_starts_also_where_no_teaching_can_be_taken_up(settings: Settings, plate: Path) -> None:
    job = Job(recipe="plate", camera="top", compare=Compare.BOTH, who="edda", started_utc="")
    write_job(plate, replace(job, is_committed=True))
    (settings.line.data / "recipes/plate/recipe.json").mkdir(parents=True)
    TeachingJobs(settings, Program(END)).take_up()
    assert ended(plate).state is JobState.RUNNING


def test_a_memory_that_is_taught_meanwhile_keeps_the_cancelled_student(
    settings: Settings, plate: Path
) -> None:
    program = Program(HANG)
    jobs = TeachingJobs(settings, program)
    jobs.start("plate", "top", Compare.BOTH, "edda")
    await_progress(jobs)
    jobs.cancel("plate")
    await_end(jobs)
    program.then = END
    for _ in range(2):
        start(jobs)
        await_end(jobs)
    assert (ended(plate).state, ended(plate).compare) == (JobState.DONE, Compare.MEMORY)
    jobs.resume("plate", "otto")
    await_end(jobs)
    assert (ended(plate).compare, ended(plate).resumable) == (Compare.BOTH, None)


def test_a_count_keeps_the_oddest_pictures_and_the_cancelled_student(settings: Settings, plate: Path) -> None:
    program = Program(END)
    jobs = TeachingJobs(settings, program)
    start(jobs)
    await_end(jobs)
    program.then = HANG
    jobs.start("plate", "top", Compare.BOTH, "edda")
    await_progress(jobs)
    jobs.cancel("plate")
    await_end(jobs)
    program.then = COMMIT + 'report(type="end", version=4)\n'
    jobs.count("plate", "top", 3, "edda")
    await_end(jobs)
    job = ended(plate)
    assert (job.kind, job.state, job.version, job.oddest) == (JobKind.COUNT, JobState.DONE, 4, ("a.png",))
    assert job.resumable is not None
    assert job.resumable.compare is Compare.BOTH
    program.then = "sys.exit(1)"
    jobs.count("plate", "top", 4, "edda")
    await_end(jobs)
    assert ended(plate).resumable == job.resumable, "a count is started anew, not resumed"


def test_a_teaching_knows_how_many_images_changed_since_it_was_started(
    settings: Settings, plate: Path
) -> None:
    folder = TeachingFolder.of(settings, "plate")
    for name in ("a.png", "b.png"):
        folder.copy(ImageKind.GOOD, name, b"")
    jobs = TeachingJobs(settings, Program(END))
    start(jobs)
    await_end(jobs)
    assert ended(plate).count_changed(["a.png", "b.png"]) == 0
    assert ended(plate).count_changed(["b.png", "c.png"]) == 2


def test_a_teaching_that_was_interrupted_with_the_page_is_taken_up_by_the_next_one(
    settings: Settings, plate: Path
) -> None:
    jobs = TeachingJobs(settings, Program(HANG))
    start(jobs)
    await_progress(jobs)
    jobs.stop()
    await_end(jobs)
    assert ended(plate).state is JobState.RUNNING
    after = TeachingJobs(settings, Program(END))
    after.take_up()
    await_end(after)
    assert (ended(plate).state, ended(plate).starts) == (JobState.DONE, 1)


def test_a_teaching_that_may_end_the_service_is_not_taken_up_for_ever(
    settings: Settings, plate: Path
) -> None:
    job = Job(recipe="plate", camera="top", compare=Compare.BOTH, who="edda", started_utc="")
    write_job(plate, replace(job, starts=MOST_STARTS))
    jobs = TeachingJobs(settings, Program(END))
    jobs.take_up()
    assert jobs.running is None
    assert ended(plate).state is JobState.FAILED
    write_job(plate, replace(job, is_committed=True))
    jobs.take_up()
    assert jobs.running is None
    assert ended(plate).state is JobState.DONE, "a version on disk is not taught once more"


def test_a_damaged_file_is_named_and_keeps_no_other_teaching_from_work(
    settings: Settings, plate: Path
) -> None:
    plate.mkdir(parents=True)
    (plate / "job.json").write_text(json.dumps({"state": "running"}))
    with pytest.raises(TeachingError, match=r"job\.json"):
        read_job(plate)
    jobs = TeachingJobs(settings, Program(END))
    jobs.take_up()
    start(jobs)
    await_end(jobs)
    assert ended(plate).state is JobState.DONE
