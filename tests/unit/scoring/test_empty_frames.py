"""A frame without a part passes without a score, and does not count for anything that watches parts."""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.camera import Shot
from drivers.image_file import Image
from monitor.capture.worker import Clocks, Intake
from monitor.images.preprocessing import resize_image
from monitor.inference.scorer import Scorer
from monitor.line_state.board import Board
from monitor.line_state.changeover import RecipeIdentity
from monitor.line_state.counts import count_verdicts
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import FinalVerdict, Ring, ScorerVerdict, Stage, Tally
from monitor.line_state.verdict_rules import count, make_event
from monitor.line_state.worker_process import SCORING, Worker, WorkerStart, settings_for, worker_names
from monitor.model.recipe_version import RecipeVersion
from monitor.publish.reject_watch import RejectWatch
from monitor.review.line_view import LineView
from monitor.scoring.worker import ScoringLoop
from monitor.service.prometheus import Metrics
from monitor.settings import CameraSettings, Settings
from monitor.training import presence_training
from monitor.verdict import Reason, Verdict
from tests.real import parts
from tests.real.parts import draft_recipe, empty_place, part

EMPTY = FinalVerdict(Verdict.PASS, Reason.NO_PART, True, False, 1, 2)


class Scene:
    """The scoring worker with a recipe that has a presence gate, and a camera that writes into its ring."""

    def __init__(self, folder: Path, runtime: str = "torch", **camera: object) -> None:
        self.settings = Settings(
            line={"data": folder / "data"},  # type: ignore[arg-type]
            scoring={"device": "cpu", "runtime": runtime, "precision": "f32"},  # type: ignore[arg-type]
            snapshots={"pass_every": 2},  # type: ignore[arg-type]
            camera=(
                {
                    "name": "top",
                    "source": "simulated://plate",
                    "recipe": "disc",
                    "deadline_ms": 60_000,
                    **camera,
                },
            ),  # type: ignore[arg-type]
        )
        presence = presence_training.learn_gate(
            parts.empty_pictures(folder / "empty", 12), lambda image: resize_image(image, (64, 64)), say=print
        )
        self.recipe: RecipeVersion = (
            draft_recipe(folder / "data/recipes/disc").with_presence(presence).commit()
        )
        session = uuid.uuid4()
        Board.create(folder / "board", worker_names(self.settings))
        Ring.create(folder, "top", session)
        self.ring = Ring(folder, "top", session)
        tree = settings_for(self.settings, SCORING)
        self.scoring = ScoringLoop(Worker(WorkerStart(SCORING, str(folder), str(session), os.getpid(), tree)))
        times = Clocks(time.monotonic_ns, time.time_ns)
        self.intake = Intake(self.settings.camera[0], self.ring, lambda frame: None, times)

    def show(self, image: Image) -> ScorerVerdict:
        self.intake.admit(Shot(image, "BGR8", time.monotonic_ns()))
        self.scoring.run_once()
        number = self.ring.last_frame()
        scored = self.ring.scorer_verdict(number)
        assert scored is not None
        assert not self.ring.unreleased_frames(), "the slot is free again"
        # What the publisher does next.
        closed = FinalVerdict(
            scored.verdict, scored.reason, True, scored.snapshot, time.monotonic_ns(), time.time_ns()
        )
        self.ring.write_closed(number, closed)
        self.ring.write_stage(number, Stage.SENT, time.monotonic_ns())
        self.ring.write_tally(count(self.ring.tally(), number, closed, missed=False))
        return scored


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.ring.close()


def test_an_empty_frame_passes_unscored_and_a_part_is_scored(scene: Scene) -> None:
    empty = scene.show(empty_place(100))
    assert (empty.verdict, empty.reason) == (Verdict.PASS, Reason.NO_PART)
    assert math.isnan(empty.score)
    assert empty.threshold == 0.5
    assert empty.recipe_sha == scene.recipe.sha
    shown = scene.show(part(1))
    assert math.isfinite(shown.score)
    assert shown.reason is Reason.NONE
    assert shown.score == Scorer(scene.recipe, device="cpu", runtime="torch").score([part(1)])[0].score


@pytest.mark.usefixtures("two_threads")
def test_an_empty_frame_passes_unscored_in_a_run_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "openvino")
    scene.show(part(1))
    for _ in range(5):
        # So slow that no lane counts as too slow.
        scene.scoring._turn_time.add(1_000_000_000)
    first = scene.ring.last_frame() + 1
    for image in (part(1), empty_place(100), empty_place(101), part(1), part(1)):
        scene.intake.admit(Shot(image, "BGR8", time.monotonic_ns()))
    assert scene.scoring.run_once()
    found = [scene.ring.scorer_verdict(number) for number in range(first, first + 5)]
    reasons = [one.reason for one in found if one is not None]
    assert reasons == [Reason.NONE, Reason.NO_PART, Reason.NO_PART, Reason.NONE, Reason.NONE]
    assert not scene.ring.unreleased_frames()
    scene.scoring._frames.context.destroy()
    scene.ring.close()


def test_the_payload_of_an_empty_frame_has_no_score_and_the_recipes_threshold(scene: Scene) -> None:
    scored = scene.show(empty_place(100))
    frame = scene.ring.frame(1)
    assert frame is not None
    told = make_event(
        "p/l", "s", scene.settings.camera[0], RecipeIdentity("disc", "a" * 64), frame, EMPTY, scored
    ).payload(100)
    assert (told["verdict"], told["reason"], told["score"], told["threshold"]) == (
        "pass",
        "no_part",
        None,
        0.5,
    )
    assert told["recipe_sha"] == scene.recipe.sha
    assert told["snapshot"] is None


def test_the_network_gets_no_empty_frame(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = scene.scoring._recipes.scorers["top"]

    def refuse(images: object) -> None:
        raise AssertionError("an empty frame was scored")

    monkeypatch.setattr(scorer, "score", refuse)
    for number in range(5):
        scene.show(empty_place(200 + number))
    assert scene.scoring._turn_time.estimate_ns == 0, "an empty frame does not count for the scoring time"
    assert not scene.scoring._recent
    with pytest.raises(AssertionError, match="was scored"):
        scene.show(part(1))


def test_frames_of_another_size_are_all_scored_and_one_log_line_says_so(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert math.isfinite(scene.show(empty_place(number, side=96)).score)
    said = [record.getMessage() for record in caplog.records if "presence gate" in record.getMessage()]
    assert len(said) == 1
    assert "80x80 in colour, but the frames are of 96x96 in colour" in said[0]


def test_drift_and_every_nth_passed_part_count_parts_alone(scene: Scene) -> None:
    fed = scene.scoring._detectors["top"]
    for number in range(3):
        scene.show(empty_place(number))
    assert "0 of the last 0 judged parts" in fed.evidence()
    assert scene.scoring._snapshot_choice._passed["top"] == 0
    scene.show(part(1))
    assert "of the last 1 judged parts" in fed.evidence()


def test_metrics_count_empty_frames_by_their_reason_and_without_a_score_ratio(scene: Scene) -> None:
    for image in (empty_place(1), part(1), empty_place(2), part(2), empty_place(3)):
        scene.show(image)
    now = count_verdicts(scene.ring)
    assert now.no_part == 3
    assert now.passed + now.rejected == now.frames == 5
    assert now.in_flight == 0
    board = Board(scene.scoring._worker.folder / "board", worker_names(scene.settings))
    metrics = Metrics(scene.settings, {"top": scene.ring}, board, logging.getLogger("metrics"))
    metrics.follow()
    families = {family.name: family for family in metrics._registry.collect()}
    verdicts = {
        (sample.labels["verdict"], sample.labels["reason"]): sample.value
        for sample in families["line_monitor_verdicts"].samples
    }
    assert verdicts["pass", "no_part"] == 3
    assert verdicts["pass", ""] + verdicts["reject", ""] == 2
    assert sum(verdicts.values()) == 5
    ratios = {sample.name: sample.value for sample in families["line_monitor_score_ratio"].samples}
    assert ratios["line_monitor_score_ratio_count"] == 2
    board.close()


def test_the_days_histogram_holds_parts_alone(scene: Scene, tmp_path: Path) -> None:
    calibration = scene.recipe.document.calibration["torch-f32"]
    for image in (part(1), empty_place(1), empty_place(2)):
        scene.show(image)
    scores = LineView(scene.settings, tmp_path).passed_scores("top")
    assert all(math.isfinite(score) for score in scores)
    assert len(scores) == (scene.ring.scorer_verdict(1).score <= calibration.threshold)  # type: ignore[union-attr]


def test_an_empty_place_ends_a_live_views_reject(tmp_path: Path) -> None:
    """The same defect in view after that is a new reject with its own snapshot."""
    scene = Scene(tmp_path, mode="latest")
    recipe = scene.recipe
    bad = part(3, defect=True)
    score = Scorer(recipe, device="cpu", runtime="torch").score([bad])[0].score
    scene.scoring._snapshot_choice._shown.add("top")
    assert scene.show(empty_place(5)).reason is Reason.NO_PART
    assert "top" not in scene.scoring._snapshot_choice._shown
    assert scene.show(bad).verdict is (Verdict.REJECT if score > 0.5 else Verdict.PASS)
    scene.ring.close()


def test_an_empty_frame_neither_ends_a_run_of_rejects_nor_lengthens_it() -> None:
    """The belt may be empty between the defective parts of one fault, and an empty belt is no reject."""
    camera = CameraSettings(name="top", source="simulated://plate", recipe="disc", stop_after_rejects=3)
    watch = RejectWatch(camera)
    told = []
    for _ in range(3):
        told.append(watch.feed(Verdict.REJECT))
        for _ in range(5):
            assert watch.feed(Verdict.PASS, Reason.NO_PART) is Latch.NONE
    assert told == [Latch.NONE, Latch.NONE, Latch.REJECT_RUN]
    share = RejectWatch(camera.model_copy(update={"stop_after_rejects": 0, "stop_reject_rate": 0.5}))
    for _ in range(share._size // 2):
        share.feed(Verdict.REJECT)
        share.feed(Verdict.PASS, Reason.NO_PART)
    assert share.feed(Verdict.REJECT) is Latch.REJECT_RATE, "the share is one of parts, not of frames"


def test_an_empty_frame_is_counted_as_passed_and_as_no_part(ring: Ring) -> None:
    tally = count(
        count(Tally(), 1, EMPTY, missed=False),
        2,
        FinalVerdict(Verdict.PASS, Reason.NONE, True, False, 1, 2),
        False,
    )
    assert (tally.passed, tally.no_part, tally.frames) == (2, 1, 2)
    ring.write_tally(tally)
    assert ring.tally() == tally
