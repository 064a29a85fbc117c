"""Of a live view only what changes is published, every frame is counted, and only a dead worker is called
lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.camera import Shot
from monitor.line_state.board import Field, WorkerState
from monitor.line_state.counts import count_verdicts
from monitor.line_state.worker_process import PUBLISH, SCORING, capture_name
from monitor.verdict import Reason
from tests.unit.publish.scene import Scene


def test_a_live_views_episode_is_published_once_and_never_for_the_gate(tmp_path: Path) -> None:
    scene = Scene(tmp_path, publish_verdicts="all", mode="latest")

    def published(scores: str) -> list[tuple[object, object]]:
        scene.link.sent = []
        scene.judge_parts(scores)
        assert set(scene.topics()) <= {"verdict"}
        scene.link.acknowledge_all()
        scene.turn()
        return [(payload["frame"], payload["verdict"]) for _, _, payload in scene.link.sent]

    assert published("prrrr") == [(1, "pass"), (2, "reject")]
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert published("rruuupprr") == [(8, "uninspected"), (11, "pass"), (12, "pass"), (13, "reject")]
    assert count_verdicts(scene.ring).frames == 14
    assert count_verdicts(scene.ring).in_flight == 0
    scene.end()


def reason_of_unscored(scene: Scene, pause_ms: int) -> Reason:
    """Captures a frame that gets no score. Returns its reason after that pause of the publisher."""
    scene.intake.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", scene.now))
    scene.turn()
    scene.turn(later_ms=pause_ms)
    closed = scene.ring.final_verdict(scene.ring.last_frame())
    assert closed is not None
    return closed.reason


@pytest.mark.parametrize("pause_ms", [240, 900])
def test_a_worker_is_called_lost_only_after_its_death(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, pause_ms: int
) -> None:
    """On an overloaded computer every worker may be seconds late, the publisher too."""
    capture = capture_name("top")
    for worker in (SCORING, PUBLISH, capture):
        scene.board.write(worker, Field.STATE, WorkerState.RUNNING)
        scene.board.write(worker, Field.ALIVE_UNTIL_NS, 0)
    assert reason_of_unscored(scene, pause_ms) is Reason.DEADLINE
    monkeypatch.setattr(scene.ring, "fill", lambda frame, pixels: None)
    assert reason_of_unscored(scene, pause_ms) is Reason.DEADLINE, "its pixels are still being written"
    scene.board.write(capture, Field.STATE, WorkerState.ABSENT)
    assert reason_of_unscored(scene, pause_ms) is Reason.CAPTURE_LOST
    scene.board.write(capture, Field.STATE, WorkerState.RUNNING)
    scene.board.write(capture, Field.SINCE_NS, scene.now + 10**6)
    assert reason_of_unscored(scene, pause_ms) is Reason.CAPTURE_LOST, "a successor runs already"
    monkeypatch.undo()
    scene.board.write(SCORING, Field.STATE, WorkerState.STARTING)
    assert reason_of_unscored(scene, pause_ms) is Reason.SCORER_LOST


def test_a_part_that_was_due_before_the_publisher_began_is_publisher_lost(scene: Scene) -> None:
    scene.part(0.5)
    scene.end()
    scene.now += 900 * 10**6
    scene.publisher, scene.link = scene.start()
    scene.turn()
    closed = scene.ring.final_verdict(1)
    assert closed is not None
    assert closed.reason is Reason.PUBLISHER_LOST
