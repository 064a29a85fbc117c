"""A version is tried before a person signs for it: each defect is scored once, and an end always comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.model.version_files import VersionFile
from monitor.review.snapshot_files import Key
from monitor.review.trial_process import TrialReport, TrialStart, try_version
from monitor.review.version_trial import TrialState, VersionTrials
from tests.real.parts import draft_recipe

VERSION = VersionFile(1, Path("recipes/disc/recipe.json"), "0" * 16)
KEYS = [Key("2026-11-24", "top", f"0100{n:02d}000_top_{n}_0.02") for n in range(3)]


class Runs:
    """In place of the process: each part's score is its frame's number, and `error` is the end."""

    def __init__(self) -> None:
        self.starts: list[TrialStart] = []
        self.error = ""

    def __call__(self, start: TrialStart, take: Callable[[TrialReport], None]) -> None:
        self.starts.append(start)
        for place, fields in enumerate(start.defects):
            take(TrialReport(place=place, score=float(Key(*fields).frame)))
        if self.error != "killed":
            take(TrialReport(is_end=True, error=self.error))


def test_only_defects_that_were_labelled_since_are_scored_again(tmp_path: Path) -> None:
    runs = Runs()
    trials = VersionTrials(tmp_path, runs)
    assert trials.find(VERSION, KEYS[:2]).ended.wait(10)
    assert trials.find(VERSION, KEYS[:2]).defect_scores == (0.0, 1.0)
    assert trials.find(VERSION, KEYS).ended.wait(10)
    assert sorted(trials.find(VERSION, KEYS).defect_scores) == [0.0, 1.0, 2.0]
    fewer = trials.find(VERSION, KEYS[:1])
    assert (fewer.state, fewer.defect_scores) == (TrialState.DONE, (0.0,)), "a label that was taken back"
    assert [len(start.defects) for start in runs.starts] == [2, 1]


@pytest.mark.parametrize("error", ["damaged", "killed"])
def test_a_failure_is_told_once_and_tried_again(tmp_path: Path, error: str) -> None:
    runs = Runs()
    trials, runs.error = VersionTrials(tmp_path, runs), error
    trials.find(VERSION, ()).ended.wait(10)
    told = trials.find(VERSION, ())
    assert told.state is TrialState.FAILED
    assert ("interrupted" in told.error) == (error == "killed")
    runs.error = ""
    again = trials.find(VERSION, ())
    assert again.ended.wait(10)
    assert again.state is TrialState.DONE


def test_a_damaged_version_is_found(tmp_path: Path) -> None:
    recipe = draft_recipe(tmp_path / "disc").commit()
    (recipe.folder / recipe.document.teacher.weights.file).write_bytes(b"torn")
    trials = VersionTrials(tmp_path / "snapshots", try_version)
    trial = trials.find(VersionFile(1, recipe.folder / "recipe.json", recipe.sha[:16]), ())
    assert trial.ended.wait(10)
    assert "damaged" in trial.error
