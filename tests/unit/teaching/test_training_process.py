"""The training process tells the page how far it is, and why it can not go on; the line's test trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monitor.audit.trail import AuditTrail
from monitor.model.in_force import find_in_force
from monitor.model.recipe_version import RecipeVersion
from monitor.settings import LineSettings, Settings
from monitor.teaching.teaching_job import JobKind
from monitor.teaching.training_messages import (
    EndReport,
    ProgressReport,
    Report,
    TrainingStart,
    decode_report,
    encode_report,
)
from monitor.teaching.training_process import ReportedProgress, report_end
from monitor.training.compare import Compare
from monitor.training.readable_images import file_mark
from tests.real.parts import part, random_recipe, save


def test_progress_is_told_at_most_twice_a_second_and_at_the_end_of_each_step() -> None:
    sent: list[Report] = []
    now = [0.0]
    progress = ReportedProgress(sent.append, lambda: now[0])
    for done in range(1, 101):
        now[0] += 0.1
        progress.update("read", done, 100)
    told = [report.done for report in sent if isinstance(report, ProgressReport)]
    assert told[-1] == 100
    assert 18 <= len(told) <= 22


def make_start(data: Path, kind: JobKind = JobKind.TEACH, base: int | None = None) -> TrainingStart:
    settings = Settings(line=LineSettings(data=data))
    return TrainingStart(
        parent=1,
        report_to=1,
        settings=settings.model_dump(mode="json", exclude_none=True),
        recipe="plate",
        camera="top",
        compare=Compare.MEMORY,
        who="edda",
        threads=torch.get_num_threads(),
        kind=kind,
        base=base,
    )


def test_what_can_not_be_taught_is_told_in_one_line(tmp_path: Path) -> None:
    sent: list[Report] = []
    report_end(make_start(tmp_path), sent.append)
    report_end(make_start(tmp_path, JobKind.COUNT, 1), sent.append)
    assert sent == [
        EndReport(message="there is no image of a good part for recipe plate: collect some first"),
        EndReport(message="there is no known defect for recipe plate: collect some first"),
    ]


def test_a_count_makes_a_version_with_the_escapes_and_the_same_threshold(tmp_path: Path) -> None:
    before = random_recipe(tmp_path / "recipes/plate")
    for number in range(2):
        save(tmp_path / f"teaching/plate/defects/{number}.png", part(number, defect=True))
    sent: list[Report] = []
    report_end(make_start(tmp_path, JobKind.COUNT, before.number), sent.append)
    assert sent[-1] == EndReport(version=2), sent
    after = RecipeVersion.load(before.folder).document
    assert after.calibration == before.document.calibration
    assert {point.defects for point in after.operating_points} == {2}
    assert find_in_force(before.folder).number == 1, "it waits for a signature"
    entry = list(AuditTrail.of(Settings(line=LineSettings(data=tmp_path))).entries())[-1]
    assert (entry.kind, entry.before, entry.meaning) == ("training", "plate@1", "known defects counted")
    mark = file_mark(tmp_path / "teaching/plate/defects/0.png")
    taught = before.with_changes(calibrated_on=(mark,)).commit()
    report_end(make_start(tmp_path, JobKind.COUNT, taught.number), sent.append)
    assert isinstance(sent[-1], EndReport)
    assert sent[-1].message.startswith("1 of the known defects taught plate@3 as good parts: teach")


_CANCELLED_DURING_THE_COMMIT = """
import signal
from monitor.teaching.training_process import postpone_termination

signal.signal(signal.SIGTERM, lambda *_: print("ended"))
with postpone_termination():
    signal.raise_signal(signal.SIGTERM)
    print("recorded")
signal.raise_signal(signal.SIGTERM)
"""


def test_a_cancel_during_the_commit_takes_effect_after_the_record() -> None:
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _CANCELLED_DURING_THE_COMMIT], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["recorded", "ended", "ended"]


def test_a_report_is_one_line_and_another_line_is_none() -> None:
    report = ProgressReport(step="train", done=1.5, total=2, note="a\nb")
    line = encode_report(report)
    assert line.count(b"\n") == 1
    assert decode_report(line) == report
    with pytest.raises(ValueError, match="no report"):
        decode_report(b"{}")
