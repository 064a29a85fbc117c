"""The table of a fleet's trainings."""

from __future__ import annotations

from monitor.fleet.training_overview import TrainingOverview
from monitor.fleet.training_record import TrainingResult, TrainingState
from monitor.fleet.training_task import ReportedProgress, TrainingReport


def test_each_recipe_has_a_row_and_each_event_a_line() -> None:
    overview = TrainingOverview(["top", "side", "back"], clock=lambda: 0.0)
    overview.take_reports([TrainingReport("side", "pc2:ab", "train", 2.5, 15, "40 s left", 2)])
    overview.take_result(
        TrainingResult(recipe="top", state=TrainingState.FAILED, message="no images", node="pc1:cd")
    )
    assert [row.cells() for row in overview.rows()] == [
        ("top", "failed", "", "", "pc1:cd"),
        ("side", "train", "2.5/15", "40 s left", "pc2:ab"),
        ("back", "waiting", "", "", ""),
    ]
    assert list(overview.take_lines()) == [
        "top: failed on pc1:cd: no images",
        "side: runs on pc2:ab, resumed at epoch 2",
    ]
    assert list(overview.take_lines()) == []
    assert overview.summary() == "0 of 3 recipes are taught, 1 run, 1 wait, 1 failed"


def test_a_training_counts_as_begun_with_its_first_step() -> None:
    begun: list[int | None] = []
    sent: list[TrainingReport] = []
    times = iter((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    progress = ReportedProgress("top", "pc", sent.append, begun.append, lambda: next(times))
    progress.update("read", 1, 2)
    assert begun == []
    progress.note_line("resumed at epoch 7")
    progress.update("train", 6.1, 15)
    progress.update("train", 6.2, 15)
    assert begun == [7]
    assert [(report.stage, report.resumed_at) for report in sent] == [("read", None), ("train", 7)]
