"""A new threshold from overkills makes no false guarantee, takes effect only once accepted, and only once."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitor.inference.scorer import Scorer
from monitor.model.in_force import Approval, find_in_force, put_in_force
from monitor.model.recipe_json import REFERENCE, Calibration, DefectScores, Training
from monitor.model.recipe_version import RecipeVersion
from monitor.model.version_files import list_versions
from monitor.review.recalibration import (
    Job,
    RateRequest,
    Recalibration,
    RecalibrationError,
    ScoredPart,
    State,
    effects,
    propose,
)
from monitor.review.snapshot_files import Key, SnapshotFiles
from monitor.snapshots.labels import Label
from monitor.training.operating_points import own_point
from monitor.training.readable_images import content_mark
from monitor.training.thresholds import add_overkills, explain, make_calibration
from tests.real.parts import part, random_recipe, save

pytestmark = pytest.mark.usefixtures("without_openvino")

BY = ("anna", "2026-11-30T07:00:00.000Z")
KEY = Key("2026-11-24", "top", "010000000_top_1_0.02")


def awaited(job: Job) -> Job:
    until = time.monotonic() + 30
    while job.state is State.WORKING and time.monotonic() < until:
        time.sleep(0.02)
    return job


def snapshot(files: SnapshotFiles, number: int, *, defect: bool = False) -> Key:
    key = Key("2026-11-24", "top", f"0100{number:02d}000_top_{number}_0.02")
    save(files.root / f"{key.path}.png", part(number, defect=defect))
    (files.root / f"{key.path}.json").write_text(json.dumps({"labels": []}))
    return key


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    return SnapshotFiles(tmp_path / "snapshots")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> RecipeVersion:
    draft = random_recipe(tmp_path_factory.mktemp("recipes") / "disc")
    scores = [result.score for result in Scorer(draft, device="cpu").score([part(n) for n in range(20)])]
    low = [score * 0.5 for score in scores]
    return draft.with_calibration({REFERENCE: make_calibration(low, 0.1)})


@pytest.fixture
def recipe(tmp_path: Path, strict: RecipeVersion) -> RecipeVersion:
    """A recipe whose threshold rejects nearly every part."""
    return replace(strict, folder=tmp_path / "recipes" / "disc").commit()


def trained_on(mark: str) -> Training:
    return Training(
        utc="2026-11-24T00:00:00.000Z",
        images=1,
        train=1,
        select=0,
        calibrate=0,
        skipped=0,
        epochs=1,
        best_epoch=1,
        seed=0,
        as_paper=False,
        optimiser="none",
        device="cpu",
        torch="2",
        seconds=0.0,
        losses=(),
        select_maps=(),
        seen=(mark,),
    )


def test_overkills_only_raise_the_threshold_and_never_make_a_promise() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 40, 99, 200):
        before = make_calibration(np.exp(rng.normal(0, 0.4, count)).tolist(), 0.01)
        for added in (1, 10, 100):
            more = (before.threshold * (1 + rng.random(added))).tolist()
            after = add_overkills(before, more)
            assert after.threshold >= before.threshold
            assert after.guaranteed == before.guaranteed == (count >= 99)
            assert after.scores == before.scores
            assert after.overkill == before.overkill


def test_the_promise_that_was_made_is_kept_after_overkills_were_added() -> None:
    """400 simulated lines, each with 99 calibration scores and the good parts that it then rejected."""
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(400):
        before = make_calibration(rng.exponential(1, 99).tolist(), 0.01)
        later = rng.exponential(1, 500)
        after = add_overkills(before, later[later > before.threshold].tolist())
        rates.append(np.exp(-after.threshold))
    assert np.mean(rates) <= 0.01 + 3 * np.std(rates) / len(rates) ** 0.5


def test_the_same_overkills_taken_twice_count_once() -> None:
    before = make_calibration([0.1 * n for n in range(1, 100)], 0.01)
    once = add_overkills(before, [20.0, 30.0])
    assert add_overkills(once, [30.0, 20.0]) == once
    assert add_overkills(once, [40.0]).added == (20.0, 30.0, 40.0)
    assert "99 calibration images and 2 overkills" in explain(once)


def test_effects_count_each_label_at_both_thresholds() -> None:
    parts = [
        ScoredPart(KEY, Label.OVERKILL, 1.5),
        ScoredPart(KEY, Label.OVERKILL, 3.0),
        ScoredPart(KEY, Label.DEFECT, 1.5),
        ScoredPart(KEY, Label.DEFECT, 9.0),
        ScoredPart(KEY, Label.UNSURE, 2.0),
    ]
    found = {
        one.label: (one.parts, one.rejected_before, one.rejected_after) for one in effects(parts, 1.0, 2.0)
    }
    assert found == {Label.DEFECT: (2, 2, 1), Label.OVERKILL: (2, 2, 1), Label.UNSURE: (1, 1, 0)}


def test_a_proposal_changes_nothing_until_it_is_accepted_and_then_exactly_that(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    labelled = [(snapshot(files, n), Label.OVERKILL) for n in range(8)]
    labelled += [(snapshot(files, 20 + n, defect=True), Label.DEFECT) for n in range(3)]
    work = Recalibration(tmp_path / "recipes", files, 50)
    job = awaited(work.start("disc", labelled))
    assert job.state is State.READY, job.error
    assert (job.done, job.total) == (11, 11)
    proposal = job.proposal
    assert proposal is not None
    assert proposal.after.threshold > proposal.before.threshold
    by_label = {one.label: one for one in proposal.effects}
    assert by_label[Label.OVERKILL].rejected_before == 8
    assert by_label[Label.OVERKILL].rejected_after <= 1
    assert by_label[Label.DEFECT].parts == 3
    assert RecipeVersion.load(recipe.folder).sha == recipe.sha
    with pytest.raises(RecalibrationError, match="replaced or discarded"):
        work.accept("another", labelled, *BY)
    work.accept(job.id, labelled, *BY)
    now = RecipeVersion.load(recipe.folder)
    assert now.document.calibration[REFERENCE] == proposal.after
    stated = msgspec.structs.replace(
        now.document,
        calibration=recipe.document.calibration,
        operating_points=(),
        statement="",
        lineage=None,
        defect_scores=None,
    )
    assert stated == recipe.document, "only the threshold and what is stated of it have changed"
    assert find_in_force(recipe.folder).number == 1, "a new version is not in force until it is promoted"
    assert now.document.lineage is not None
    lineage = now.document.lineage
    assert (lineage.who, lineage.parent, lineage.images) == ("anna", recipe.sha, 8)
    own = own_point(now.document)
    assert own is not None
    assert own.threshold == proposal.after.threshold
    assert now.document.defect_scores is not None
    assert len(now.document.defect_scores.labelled) == 3, "the version keeps what the warning rests on"
    assert "of your 3 known defects would pass" in now.document.statement
    with pytest.raises(RecalibrationError):
        work.accept(job.id, labelled, *BY)


def test_another_rate_of_a_version_is_proposed_from_its_scores_with_what_it_does_to_parts_and_defects(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    recipe.with_changes(statement="in force").commit()
    labelled = [(snapshot(files, 20, defect=True), Label.DEFECT)]
    work = Recalibration(tmp_path / "recipes", files, 50)
    job = awaited(work.start("disc", labelled, RateRequest(1, 0.4), [snapshot(files, 1)]))
    proposal = job.proposal
    assert proposal is not None, job.error
    assert proposal.base == "disc@1"
    assert proposal.after.threshold < proposal.before.threshold
    assert [(one.label, one.parts) for one in proposal.effects if one.parts] == [(Label.DEFECT, 1), (None, 1)]
    work.accept(job.id, labelled, *BY)
    made = RecipeVersion.load(recipe.folder)
    assert (made.number, find_in_force(recipe.folder).number) == (3, 2)
    assert made.document.calibration[REFERENCE].overkill == 0.4
    assert made.document.lineage is not None
    assert (made.document.lineage.parent, made.document.lineage.settings) == (recipe.sha, {"overkill": "0.4"})


def test_a_higher_threshold_for_another_rate_is_warned_of_like_any_other(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    own = recipe.document.calibration[REFERENCE]
    low = msgspec.structs.replace(own, threshold=min(own.scores) / 4, overkill=0.9)
    base = recipe.with_calibration({REFERENCE: low}).with_changes(
        defect_scores=DefectScores(known=(min(own.scores),))
    )
    number = base.commit().number
    proposal = propose(tmp_path / "recipes", "disc", files, (), asked=RateRequest(number, 0.1))
    passing, higher = proposal.warnings
    assert "1 of 1 known defect would pass" in passing
    assert "times higher" in higher


def test_a_proposal_is_as_old_as_the_labels_that_it_was_made_from(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    labelled = [(snapshot(files, n), Label.OVERKILL) for n in range(3)]
    work = Recalibration(tmp_path / "recipes", files, 50)
    job = awaited(work.start("disc", labelled))
    another = (snapshot(files, 9), Label.DEFECT)
    changed = (labelled[0][0], Label.DEFECT)
    for now in ([*labelled, another], [changed, *labelled[1:]], labelled[1:]):
        with pytest.raises(RecalibrationError, match="labels have changed since: calculate it again"):
            work.accept(job.id, now, *BY)
    assert RecipeVersion.load(recipe.folder).sha == recipe.sha
    assert work.accept(job.id, labelled[::-1], *BY).state is State.ACCEPTED


def test_an_accepted_threshold_keeps_to_the_bound_on_versions(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    recipe.with_changes(statement="second").commit()
    put_in_force(recipe.folder, 2, Approval(who=BY[0], utc=BY[1], meaning="approved for production"))
    work = Recalibration(tmp_path / "recipes", files, 2)
    labelled = [(snapshot(files, 1), Label.OVERKILL)]
    work.accept(awaited(work.start("disc", labelled)).id, labelled, *BY)
    assert [version.number for version in list_versions(recipe.folder)] == [2, 3]


def test_a_recipe_that_changed_meanwhile_is_not_overwritten(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    work = Recalibration(tmp_path / "recipes", files, 50)
    labelled = [(snapshot(files, 1), Label.OVERKILL)]
    job = awaited(work.start("disc", labelled))
    other = Calibration(threshold=7.0, overkill=0.1, guaranteed=False, scores=(1.0,))
    newer = recipe.with_calibration({REFERENCE: other}).commit()
    with pytest.raises(RecalibrationError, match="has changed since"):
        work.accept(job.id, labelled, *BY)
    assert RecipeVersion.load(recipe.folder).sha == newer.sha


def test_what_cannot_be_used_is_left_out_and_said(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    usable, trained, broken = (snapshot(files, n) for n in range(3))
    (files.root / f"{broken.path}.png").write_bytes(b"no picture")
    gone = Key("2026-11-24", "top", "010099000_top_99_0.02")
    seen = content_mark(files.read(trained, ".png"))
    document = msgspec.structs.replace(recipe.document, training=trained_on(seen))
    replace(recipe, document=document).commit()
    labelled = [(key, Label.OVERKILL) for key in (usable, trained, broken, gone)]
    proposal = propose(tmp_path / "recipes", "disc", files, labelled)
    assert proposal.left_out == 3
    assert [one.key for one in proposal.parts] == [usable]


def test_without_overkills_there_is_a_line_that_says_so(
    tmp_path: Path, files: SnapshotFiles, recipe: RecipeVersion
) -> None:
    work = Recalibration(tmp_path / "recipes", files, 50)
    for name, labelled, words in (
        ("disc", [(snapshot(files, 1), Label.DEFECT)], "label some first"),
        ("nowhere", [(snapshot(files, 1), Label.OVERKILL)], "no such file"),
    ):
        job = awaited(work.start(name, labelled))
        assert job.state is State.FAILED
        assert words in job.error
        work.discard()
        assert work.job is None
