"""Whether the line may run: the state that `P/status` tells, as a pure function of what the board says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from monitor.line_state.board import CameraState
from monitor.line_state.latch import Latch
from monitor.settings import CameraSettings, Mode


class LineState(StrEnum):
    STARTING = "starting"
    INSPECTING = "inspecting"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the publisher sees of the line."""

    cameras: Mapping[str, CameraState]
    """With a dead or stuck capture worker's camera as lost."""
    scorer_started: bool
    scorer_fresh: bool
    without_recipe: frozenset[str]
    latch: Latch
    failing: frozenset[str]
    """Workers that keep dying, of themselves or of others."""
    drifting: frozenset[str]
    """Cameras whose good parts no longer score as they did at calibration."""
    journal_failing: bool
    """What becomes of rejects is not recorded at the moment."""
    stopping: bool


@dataclass(frozen=True, slots=True)
class Status:
    state: LineState
    ready: bool
    reason: str | None


def judge_line(cameras: tuple[CameraSettings, ...], at: Situation) -> Status:
    """The line's status. `ready` is the run permission: every `every-part` camera is up and has its recipe,
    the scorer is fresh, nothing is latched."""
    if at.stopping:
        return Status(LineState.STOPPED, False, "stopped")
    gated = [camera.name for camera in cameras if camera.mode is Mode.EVERY_PART]
    reason = _why_not_ready(gated, at)
    if reason is None:
        trouble = _trouble_elsewhere([camera.name for camera in cameras], at)
        return Status(LineState.DEGRADED if trouble else LineState.INSPECTING, True, trouble)
    if at.latch is Latch.NONE and reason in ("starting", "camera_starting"):
        return Status(LineState.STARTING, False, reason)
    return Status(LineState.DEGRADED, False, reason)


def _why_not_ready(gated: list[str], at: Situation) -> str | None:
    if at.latch is not Latch.NONE:
        return at.latch.word
    if not at.scorer_started:
        return "starting"
    if not at.scorer_fresh:
        return "scorer_lost"
    if any(name in at.without_recipe for name in gated):
        return "no_recipe"
    for state in (CameraState.LOST, CameraState.FROZEN, CameraState.STARTING):
        if any(at.cameras[name] is state for name in gated):
            return f"camera_{state.word}"
    return None


def _trouble_elsewhere(names: list[str], at: Situation) -> str | None:
    """What does not take the run permission away, but somebody should look at."""
    if any(at.cameras[name] in (CameraState.LOST, CameraState.FROZEN) for name in names):
        return "camera_lost"
    if any(name in at.without_recipe for name in names):
        return "no_recipe"
    if at.failing:
        return "worker_failing"
    if at.drifting:
        return "drift"
    if at.journal_failing:
        return "journal"
    return None
