"""How tests look at an open camera: how old its shots are, and how soon it is known to be lost."""

from __future__ import annotations

import time

import pytest

from drivers.camera import Camera, CameraLost, Shot


def age_s(shot: Shot) -> float:
    return (time.monotonic_ns() - shot.captured_ns) / 1e9


def read_on(camera: Camera) -> None:
    until = time.monotonic() + 15
    while time.monotonic() < until:
        camera.read(0.5)


def lost_after(camera: Camera) -> float:
    """Reads until the camera is lost, which is said in one line; returns how long that took."""
    began = time.monotonic()
    with pytest.raises(CameraLost) as loss:
        read_on(camera)
    assert "\n" not in str(loss.value)
    return time.monotonic() - began
