"""`ready` is true only while nothing is wrong that concerns the gate, and what is published stays true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.line_state.board import CameraState, Field, WorkerState
from monitor.line_state.latch_file import Latch
from monitor.line_state.worker_process import PUBLISH, SCORING
from monitor.publish.mqtt_connection import LinkState
from monitor.publish.status import LineHealth, OperatingState, decide_status
from monitor.settings import CameraSettings
from tests.unit.publish.scene import MS, Scene

TOP = CameraSettings(name="top", source="simulated://plate", recipe="plate")
LIVE = CameraSettings(name="live", source="simulated://plate", recipe="plate", mode="latest")  # type: ignore[arg-type]
WITHOUT_TROUBLE = LineHealth(
    cameras={"top": CameraState.UP, "live": CameraState.UP},
    is_scorer_started=True,
    is_scorer_fresh=True,
    without_recipe=frozenset(),
    latch=Latch.NONE,
    failing=frozenset(),
    is_journal_failing=False,
    is_stopping=False,
    drifting=frozenset(),
)


def status_of(health: LineHealth) -> tuple[OperatingState, bool, str | None]:
    status = decide_status((TOP, LIVE), health)
    return status.state, status.ready, status.reason


def test_a_line_without_trouble_is_ready() -> None:
    assert status_of(WITHOUT_TROUBLE) == (OperatingState.INSPECTING, True, None)


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        ({"cameras": {"top": CameraState.LOST, "live": CameraState.UP}}, "degraded", "camera_lost"),
        ({"cameras": {"top": CameraState.FROZEN, "live": CameraState.UP}}, "degraded", "camera_frozen"),
        ({"cameras": {"top": CameraState.UNDATED, "live": CameraState.UP}}, "degraded", "camera_undated"),
        ({"cameras": {"top": CameraState.STARTING, "live": CameraState.UP}}, "starting", "camera_starting"),
        ({"is_scorer_started": False, "is_scorer_fresh": False}, "starting", "starting"),
        ({"is_scorer_fresh": False}, "degraded", "scorer_lost"),
        ({"without_recipe": frozenset({"top"})}, "degraded", "no_recipe"),
        ({"latch": Latch.MISSED_REJECT}, "degraded", "missed_reject"),
        ({"latch": Latch.UNINSPECTED}, "degraded", "uninspected"),
        ({"is_stopping": True}, "stopped", "stopped"),
        ({"is_challenged": True}, "degraded", "challenge"),
        ({"is_challenged": True, "without_recipe": frozenset({"top"})}, "degraded", "no_recipe"),
        ({"is_challenged": True, "drifting": frozenset({"top"})}, "degraded", "challenge"),
    ],
)
def test_trouble_that_concerns_the_gate_takes_the_run_permission_away(
    change: dict[str, object], state: str, reason: str
) -> None:
    assert status_of(replace(WITHOUT_TROUBLE, **change)) == (OperatingState(state), False, reason)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cameras": {"top": CameraState.UP, "live": CameraState.LOST}}, "camera_lost"),
        ({"without_recipe": frozenset({"live"})}, "no_recipe"),
        ({"failing": frozenset({"snapshots"})}, "worker_failing"),
        ({"drifting": frozenset({"top"})}, "drift"),
        ({"drifting": frozenset({"top"}), "failing": frozenset({"snapshots"})}, "worker_failing"),
        ({"is_journal_failing": True}, "journal"),
        ({"is_journal_failing": True, "drifting": frozenset({"top"})}, "drift"),
        ({"without_time": frozenset({"live"})}, "no_time"),
        ({"is_journal_failing": True, "without_time": frozenset({"live"})}, "journal"),
    ],
)
def test_other_trouble_is_published_but_leaves_the_run_permission(
    change: dict[str, object], reason: str
) -> None:
    assert status_of(replace(WITHOUT_TROUBLE, **change)) == (OperatingState.DEGRADED, True, reason)  # type: ignore[arg-type]


def test_drift_is_published_once_while_the_scorer_runs_and_not_after_its_death(scene: Scene) -> None:
    def published(state: WorkerState, higher: int, lower: int) -> list[object]:
        scene.board.write(SCORING, Field.STATE, state)
        scene.board.write(SCORING, Field.ALIVE_UNTIL_NS, scene.now + 10_000 * MS)
        scene.board.write(SCORING, Field.DRIFT_HIGHER, higher)
        scene.board.write(SCORING, Field.DRIFT_LOWER, lower)
        before = len(scene.link.statuses)
        for _ in range(3):
            scene.turn(later_ms=60)
        return [status["drift"] for status in scene.link.statuses[before:]]

    assert published(WorkerState.RUNNING, 0, 0) == [[]]
    assert published(WorkerState.RUNNING, 1, 0) == [["top"]]
    assert published(WorkerState.RUNNING, 1, 0) == [], "nothing has changed"
    assert published(WorkerState.STOPPED, 1, 0) == [[]]
    assert published(WorkerState.RUNNING, 0, 1) == [["top"]]
    assert published(WorkerState.RUNNING, 0, 0) == [[]]


def test_a_live_view_without_time_is_named_in_the_status_while_the_scorer_runs(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="latest")

    def published(state: WorkerState, bits: int) -> list[tuple[object, object, object]]:
        scene.board.write(SCORING, Field.STATE, state)
        scene.board.write(SCORING, Field.EVER_RAN, 1)
        scene.board.write(SCORING, Field.ALIVE_UNTIL_NS, scene.now + 10_000 * MS)
        scene.board.write(SCORING, Field.WITHOUT_TIME, bits)
        before = len(scene.link.statuses)
        scene.turn(later_ms=60)
        return [(one["reason"], one["without_time"], one["ready"]) for one in scene.link.statuses[before:]]

    assert published(WorkerState.RUNNING, 0) == [(None, [], True)]
    assert published(WorkerState.RUNNING, 1) == [("no_time", ["top"], True)]
    assert published(WorkerState.STOPPED, 1) == [("scorer_lost", [], False)]
    scene.end()


def test_heartbeats_come_once_a_second_and_none_makes_up_for_a_stall(scene: Scene) -> None:
    for _ in range(20_000 // 7):
        scene.turn(later_ms=7)
    assert scene.link.beats[-1] == 20, "one a second, whatever a turn takes"
    scene.turn(later_ms=5000)
    before = len(scene.link.beats)
    for _ in range(90):
        scene.turn(later_ms=10)
    assert len(scene.link.beats) == before, "none makes up for the stall"


def test_a_heartbeat_counts_the_parts_of_the_session(scene: Scene) -> None:
    scene.judge_parts("pprup")
    scene.judge_parts("ee")
    scene.link.acknowledge_all()
    scene.turn(later_ms=1000)
    assert scene.link.counts[-1] == {"passed": 3, "rejected": 1, "uninspected": 1}


def test_a_line_of_live_views_alone_counts_no_parts(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="latest")
    scene.judge_parts("pr")
    scene.turn(later_ms=1000)
    assert scene.link.counts[-1] is None
    scene.end()


def test_the_run_permission_is_on_the_board_only_once_this_connection_has_published_it(scene: Scene) -> None:
    def ready() -> bool:
        scene.board.write(SCORING, Field.ALIVE_UNTIL_NS, scene.now + 10_000 * MS)
        scene.board.write("capture-top", Field.ALIVE_UNTIL_NS, scene.now + 10_000 * MS)
        scene.turn(later_ms=60)
        return bool(scene.board.read(PUBLISH, Field.READY))

    for worker in (SCORING, "capture-top"):
        scene.board.write(worker, Field.STATE, WorkerState.RUNNING)
        scene.board.write(worker, Field.EVER_RAN, 1)
    scene.board.write("capture-top", Field.CAMERA_STATE, CameraState.UP)
    assert ready()
    assert scene.link.statuses[-1]["ready"] is True
    scene.link.state = LinkState.DOWN
    assert not ready()
    scene.link.reconnect()
    scene.link.places = 0
    assert not ready(), "the new connection has not published it yet"
    scene.link.places = 10
    assert ready()


def test_heartbeats_go_on_counting_after_the_publishers_death(scene: Scene) -> None:
    for _ in range(3):
        scene.turn(later_ms=1000)
    assert scene.link.beats == [1, 2, 3]
    scene.end()
    scene.publisher, scene.link = scene.start()
    scene.turn(later_ms=1000)
    assert scene.link.beats == [4]
