"""`ready` is the run permission: it is given only while nothing speaks against it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitor.line_state.board import CameraState
from monitor.line_state.latch import Latch
from monitor.publish.status import LineState, Situation, judge_line
from monitor.settings import CameraSettings

TOP = CameraSettings(name="top", source="simulated://plate", recipe="plate")
LIVE = CameraSettings(name="live", source="simulated://plate", recipe="plate", mode="latest")  # type: ignore[arg-type]
WELL = Situation(
    cameras={"top": CameraState.UP, "live": CameraState.UP},
    scorer_started=True,
    scorer_fresh=True,
    without_recipe=frozenset(),
    latch=Latch.NONE,
    failing=frozenset(),
    journal_failing=False,
    stopping=False,
    drifting=frozenset(),
)


def told(at: Situation) -> tuple[LineState, bool, str | None]:
    status = judge_line((TOP, LIVE), at)
    return status.state, status.ready, status.reason


def test_a_whole_line_is_ready() -> None:
    assert told(WELL) == (LineState.INSPECTING, True, None)


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        ({"cameras": {"top": CameraState.LOST, "live": CameraState.UP}}, "degraded", "camera_lost"),
        ({"cameras": {"top": CameraState.FROZEN, "live": CameraState.UP}}, "degraded", "camera_frozen"),
        ({"cameras": {"top": CameraState.STARTING, "live": CameraState.UP}}, "starting", "camera_starting"),
        ({"scorer_started": False, "scorer_fresh": False}, "starting", "starting"),
        ({"scorer_fresh": False}, "degraded", "scorer_lost"),
        ({"without_recipe": frozenset({"top"})}, "degraded", "no_recipe"),
        ({"latch": Latch.MISSED_REJECT}, "degraded", "missed_reject"),
        ({"latch": Latch.UNINSPECTED}, "degraded", "uninspected"),
        ({"stopping": True}, "stopped", "stopped"),
    ],
)
def test_whatever_speaks_against_it_takes_the_permission_away(
    change: dict[str, object], state: str, reason: str
) -> None:
    assert told(replace(WELL, **change)) == (LineState(state), False, reason)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cameras": {"top": CameraState.UP, "live": CameraState.LOST}}, "camera_lost"),
        ({"without_recipe": frozenset({"live"})}, "no_recipe"),
        ({"failing": frozenset({"snapshots"})}, "worker_failing"),
        ({"drifting": frozenset({"top"})}, "drift"),
        ({"drifting": frozenset({"top"}), "failing": frozenset({"snapshots"})}, "worker_failing"),
        ({"journal_failing": True}, "journal"),
        ({"journal_failing": True, "drifting": frozenset({"top"})}, "drift"),
    ],
)
def test_what_does_not_concern_the_gate_is_said_but_does_not_stop_the_line(
    change: dict[str, object], reason: str
) -> None:
    assert told(replace(WELL, **change)) == (LineState.DEGRADED, True, reason)  # type: ignore[arg-type]
