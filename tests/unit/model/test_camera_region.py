"""A camera takes no recipe that was trained on another region of its image."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from monitor.model.camera_region import find_region_conflict, unchecked_region
from monitor.settings import CameraSettings

ROI = (1, 2, 30, 40)


@pytest.mark.parametrize(
    ("trained", "set_on_camera", "words"),
    [
        (None, None, None),
        (None, ROI, None),
        (ROI, ROI, None),
        (ROI, None, "camera 'top' has no roi, but recipe 'disc' was trained on roi [1, 2, 30, 40]"),
        (ROI, (0, 2, 30, 40), "camera 'top' has roi [0, 2, 30, 40], but recipe 'disc' was trained on roi"),
    ],
)
def test_a_recipe_of_another_region_is_refused_in_one_line(
    trained: tuple[int, ...] | None, set_on_camera: tuple[int, ...] | None, words: str | None
) -> None:
    camera = CameraSettings(name="top", source="simulated://plate", recipe="disc", roi=set_on_camera)  # type: ignore[arg-type]
    why = find_region_conflict(camera, SimpleNamespace(roi=trained), "disc")  # type: ignore[arg-type]
    if words is None:
        assert why is None
    else:
        assert why is not None
        assert why.startswith(words)
        assert "\n" not in why


@pytest.mark.parametrize(
    ("trained", "set_on_camera", "unchecked"),
    [(None, None, None), (None, ROI, ROI), (ROI, ROI, None), (ROI, None, None)],
)
def test_a_region_without_a_recorded_one_is_unchecked(
    trained: tuple[int, ...] | None, set_on_camera: tuple[int, ...] | None, unchecked: tuple[int, ...] | None
) -> None:
    camera = CameraSettings(name="top", source="simulated://plate", recipe="disc", roi=set_on_camera)  # type: ignore[arg-type]
    assert unchecked_region(camera, SimpleNamespace(roi=trained)) == unchecked  # type: ignore[arg-type]
