"""The scoring worker gives parts the first place, and says when that leaves a live view without time."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.camera import Shot
from monitor.capture.worker import Clocks, Intake
from monitor.line_state.board import Board, Field
from monitor.line_state.ring import FinalVerdict, Ring
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

    def __init__(self, folder: Path) -> None:
        camera = {"source": "simulated://plate", "recipe": "disc", "deadline_ms": 60_000}
        self.settings = Settings(
            line={"data": folder / "data"},  # type: ignore[arg-type]
            scoring={"device": "cpu", "runtime": "torch"},  # type: ignore[arg-type]
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


@pytest.fixture
def line(tmp_path: Path) -> Iterator[MixedLine]:
    made = MixedLine(tmp_path)
    yield made
    made.board.close()
    for ring in made.rings.values():
        ring.close()


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
