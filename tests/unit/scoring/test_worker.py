"""The scoring worker gives parts the first place, and says when that leaves a live view without time."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from drivers.camera import Shot
from drivers.image_file import Image
from monitor.capture.worker import Clocks, Intake
from monitor.line_state.board import Board, Field
from monitor.line_state.frame import PixelFormat
from monitor.line_state.ring import FinalVerdict, Ring, ScorerVerdict
from monitor.line_state.worker_process import (
    PUBLISH,
    SCORING,
    Worker,
    WorkerStart,
    settings_for,
    worker_names,
)
from monitor.scoring.worker import ScoringLoop
from monitor.settings import Settings
from monitor.verdict import Reason, Verdict
from tests.real.parts import draft_recipe, part

S = 1_000_000_000


class MixedLine:
    """The scoring worker between a camera of parts and a live view, on a clock that the test moves on."""

    def __init__(self, folder: Path, runtime: str = "torch") -> None:
        camera = {"source": "simulated://plate", "recipe": "disc", "deadline_ms": 60_000}
        self.settings = Settings(
            line={"data": folder / "data"},  # type: ignore[arg-type]
            scoring={"device": "cpu", "runtime": runtime, "precision": "f32"},  # type: ignore[arg-type]
            camera=({"name": "live", "mode": "latest", **camera}, {"name": "top", **camera}),  # type: ignore[arg-type]
        )
        draft_recipe(folder / "data/recipes/disc").commit()
        session, self.ahead_ns = uuid.uuid4(), 0
        self.stopped_ns = 0
        """The time at which the clock stands; 0 while it goes."""
        Board.create(folder / "board", worker_names(self.settings))
        self.board = Board(folder / "board", worker_names(self.settings))
        self.rings, self.intakes = {}, {}
        for one in self.settings.camera:
            Ring.create(folder, one.name, session)
            ring = self.rings[one.name] = Ring(folder, one.name, session)
            self.intakes[one.name] = Intake(one, ring, lambda frame: None, Clocks(self.now, time.time_ns))
        tree = settings_for(self.settings, SCORING)
        worker = Worker(WorkerStart(SCORING, str(folder), str(session), os.getpid(), tree))
        self.scoring = ScoringLoop(worker, self.now)

    def now(self) -> int:
        return (self.stopped_ns or time.monotonic_ns()) + self.ahead_ns

    def show(self, camera: str) -> int:
        """A frame of that camera arrives. Returns its number."""
        self.intakes[camera].admit(Shot(part(1), "BGR8", self.now()))
        return self.rings[camera].last_frame()

    def is_scored(self, camera: str, number: int) -> bool:
        scored = self.rings[camera].scorer_verdict(number)
        return scored is not None and bool(scored.recipe_sha)

    def close(self) -> None:
        # Python's garbage collector would wait for ever for sockets that it has not closed yet.
        self.scoring._frames.context.destroy()
        self.board.close()
        for ring in self.rings.values():
            ring.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[MixedLine]:
    with closing(MixedLine(tmp_path)) as made:
        yield made


@pytest.fixture
def line_with_lanes(tmp_path: Path, two_threads: None) -> Iterator[MixedLine]:
    with closing(MixedLine(tmp_path, "openvino")) as made:
        made.show("top")
        assert made.scoring.run_once()
        for _ in range(5):
            # So slow that no lane counts as too slow.
            made.scoring._turn_time.add(S)
        yield made


def test_a_part_is_scored_before_a_live_view_that_came_first(line: MixedLine) -> None:
    view, top = line.show("live"), line.show("top")
    assert line.scoring.run_once()
    assert (line.is_scored("top", top), line.is_scored("live", view)) == (True, False)
    assert line.scoring.run_once()
    assert line.is_scored("live", view)


def test_a_live_views_turn_counts_for_no_estimate_and_no_share_of_the_parts(line: MixedLine) -> None:
    line.show("live")
    assert line.scoring.run_once()
    assert line.scoring._turn_time.estimate_ns == 0
    assert not line.scoring._recent
    assert line.scoring._views.estimates_ns()["live"] > 0


def test_after_a_views_turn_the_worker_waits_no_longer_than_its_pause(line: MixedLine) -> None:
    line.show("live")
    assert line.scoring.run_once()
    newest = line.show("live")
    took = line.scoring._views.estimates_ns()["live"]
    line.stopped_ns = line.scoring._views._pause_until_ns - took // 10
    assert not line.scoring.run_once(), "the pause"
    assert line.scoring._idle_ms <= took / 1e6 + 1
    line.ahead_ns += took
    assert line.scoring.run_once()
    assert line.is_scored("live", newest)


def test_a_view_without_a_recipe_is_not_said_to_have_no_time(line: MixedLine) -> None:
    line.scoring._in_force.pop("live")
    for _ in range(13):
        line.show("live")
        line.scoring.run_once()
        line.ahead_ns += S
    assert line.board.read(SCORING, Field.WITHOUT_TIME) == 0


def test_a_view_without_time_is_on_the_board_and_in_the_log_until_it_has_time_again(
    line: MixedLine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(13):
            line.show("live")
            line.show("top")
            assert line.scoring.run_once()
            line.ahead_ns += S
        assert line.board.read(SCORING, Field.WITHOUT_TIME) == 0b01, "the view's place in the settings"
        line.ahead_ns += S  # The next part is no longer expected, so the view needs not wait for it.
        for _ in range(13):
            line.show("live")
            assert line.scoring.run_once()
            line.ahead_ns += S
        assert line.board.read(SCORING, Field.WITHOUT_TIME) == 0
    said = [record.getMessage() for record in caplog.records if "view live" in record.getMessage()]
    assert said == [
        "view live: no time left for it: no picture was scored in time",
        "view live: there is time for it again",
    ]


def test_a_frame_that_may_show_a_challenge_part_counts_for_no_drift(line: MixedLine) -> None:
    line.board.write(PUBLISH, Field.CHALLENGE_SINCE_NS, line.now())
    line.board.write(PUBLISH, Field.CHALLENGE_CAMERA, 2)
    number = line.show("top")
    assert line.scoring.run_once()
    assert line.is_scored("top", number)
    assert not line.scoring._detectors["top"]._rejected
    line.board.write(PUBLISH, Field.CHALLENGE_CAMERA, 0)
    late = line.show("top")
    uninspected = FinalVerdict(Verdict.UNINSPECTED, Reason.DEADLINE, False, False, 0, 0, challenge=1)
    line.rings["top"].write_closed(late, uninspected)
    assert line.scoring.run_once()
    assert not line.scoring._detectors["top"]._rejected, "nor one that was closed before its score"
    line.show("top")
    assert line.scoring.run_once()
    assert len(line.scoring._detectors["top"]._rejected) == 1


def scored(line: MixedLine, numbers: list[int]) -> list[ScorerVerdict]:
    found = [line.rings["top"].scorer_verdict(number) for number in numbers]
    assert all(found)
    return [one for one in found if one is not None]


def test_parts_that_pile_up_are_scored_in_one_turn_two_at_a_time(line_with_lanes: MixedLine) -> None:
    line = line_with_lanes
    old_view = line.show("live")
    numbers, view = [line.show("top") for _ in range(6)], line.show("live")
    alone = line.rings["top"].scorer_verdict(1)
    assert line.scoring.run_once()
    verdicts = scored(line, numbers)
    for place, one in enumerate(verdicts[1:], start=1):
        assert sum(other.scored_ns > one.started_ns for other in verdicts[:place]) <= 1, "two at a time"
    assert alone is not None
    assert {one.score for one in verdicts} == {alone.score}, "all frames show the same part"
    assert [*line.rings["top"].unreleased_frames()] == []
    assert not line.is_scored("live", view), "the view waits for the run"
    superseded = line.rings["live"].scorer_verdict(old_view)
    assert superseded is not None
    assert superseded.reason is Reason.SUPERSEDED
    assert line.scoring.run_once()
    assert line.is_scored("live", view)


def test_a_run_takes_parts_that_come_meanwhile_and_skips_what_is_no_image(
    line_with_lanes: MixedLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, seen = line_with_lanes, list[int]()
    numbers = [line.show("top") for _ in range(3)]

    def read(pixels: bytes, pixel_format: PixelFormat) -> Image:
        seen.append(len(seen) + 1)
        if seen[-1] == 2:
            numbers.append(line.show("top"))
        if seen[-1] == 3:
            raise ValueError("no image")
        return part(1)

    monkeypatch.setattr("monitor.scoring.worker.to_image", read)
    assert line.scoring.run_once()
    reasons = [one.reason for one in scored(line, numbers)]
    assert reasons.count(Reason.BAD_FRAME) == 1
    assert reasons[-1] is not Reason.BAD_FRAME, "the one that came meanwhile was scored"
    assert [*line.rings["top"].unreleased_frames()] == []


def test_a_run_ends_for_a_changeover_and_for_a_stop(
    line_with_lanes: MixedLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, recipes = line_with_lanes, line_with_lanes.scoring._recipes
    numbers = [line.show("top") for _ in range(5)]
    monkeypatch.setattr(type(recipes), "is_changing", property(lambda self: bool(begun)))
    begun: list[int] = []

    def begin_during_the_run() -> None:
        begun.extend(number for number in numbers if line.is_scored("top", number))

    monkeypatch.setattr(recipes, "step", begin_during_the_run)
    assert line.scoring.run_once()
    assert [line.is_scored("top", number) for number in numbers] == [True, True, False, False, False]
    assert line.scoring.run_once()
    assert [line.is_scored("top", number) for number in numbers] == [True] * 3 + [False] * 2, "single turns"
    begun.clear()
    monkeypatch.setattr(recipes, "step", lambda: ())
    numbers += [line.show("top")]
    line.scoring._worker.stopping = True
    assert line.scoring.run_once()
    assert [line.is_scored("top", number) for number in numbers] == [True] * 5 + [False]


@pytest.mark.parametrize(("allowed_s", "scored_at_once"), [(4.1, 4), (3.9, 1)])
def test_no_run_begins_where_another_cameras_part_would_have_no_time_for_a_lane_and_its_turn(
    line_with_lanes: MixedLine, allowed_s: float, scored_at_once: int
) -> None:
    """Before the first run a lane counts as two single turns, here of a second each."""
    line = line_with_lanes
    numbers = [line.show("top") for _ in range(4)]
    line.scoring._allowed_ns["side"] = int(allowed_s * S)
    assert line.scoring.run_once()
    assert sum(line.is_scored("top", number) for number in numbers) == scored_at_once
