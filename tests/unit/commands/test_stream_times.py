"""`check` watches network cameras alone for images that can't be dated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drivers.camera import Shot
from monitor.commands import stream_times

SHOT = Shot(np.zeros((4, 4), np.uint8), "Mono8", 1)


class Shots:
    """A camera whose third image and those after it can't be dated."""

    def __init__(self) -> None:
        self.read_count = 0

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self, timeout_s: float) -> Shot | None:
        self.read_count += 1
        return (
            None if self.read_count == 1 else replace(SHOT, undated="why" if self.read_count >= 3 else None)
        )


@pytest.mark.parametrize("source", ["rtsp://10.0.0.9/live", "rtsps://10.0.0.9/live", "RTSP://10.0.0.9/live"])
def test_a_network_camera_is_watched_until_an_image_cant_be_dated(source: str) -> None:
    camera = Shots()
    assert stream_times.find_problem(source, camera, SHOT) == "why"
    assert camera.read_count == 3


def test_a_first_image_without_a_time_is_enough() -> None:
    camera = Shots()
    assert stream_times.find_problem("rtsp://h/", camera, replace(SHOT, undated="at once")) == "at once"
    assert camera.read_count == 0


def test_a_network_camera_without_trouble_is_watched_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_times, "_WATCHED_S", 0.01)
    camera = Shots()
    monkeypatch.setattr(camera, "read", lambda timeout_s: SHOT)
    assert stream_times.find_problem("rtsp://h/", camera, SHOT) is None


def test_other_cameras_are_not_read_again() -> None:
    camera = Shots()
    assert stream_times.find_problem("gige://cam", camera, SHOT) is None
    assert camera.read_count == 0
