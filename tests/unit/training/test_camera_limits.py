"""A recipe keeps to the shortest deadline of its cameras, which must have one region of interest."""

from __future__ import annotations

import pytest

from monitor.settings import CameraSettings
from monitor.training.camera_limits import CameraLimits, find_camera_limits
from monitor.training.loop import TrainingError


def camera(name: str, deadline_ms: int, roi: tuple[int, int, int, int] | None) -> CameraSettings:
    return CameraSettings(
        name=name, source="simulated://plate", recipe="plate", deadline_ms=deadline_ms, roi=roi
    )


def test_the_shortest_deadline_counts_and_regions_must_agree() -> None:
    roi = (0, 0, 64, 64)
    both = camera("a", 300, roi), camera("b", 200, roi)
    assert find_camera_limits("plate", both) == CameraLimits(roi, 200)
    assert find_camera_limits("plate", ()) == CameraLimits(None, None)
    with pytest.raises(TrainingError, match="different roi"):
        find_camera_limits("plate", (*both, camera("c", 200, None)))
