"""Measures an open camera for tests: the age of its shots, and the time until a loss is reported."""

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
    """Read until the camera is lost, which must be reported in one line. Returns the time that this took."""
    began = time.monotonic()
    with pytest.raises(CameraLost) as loss:
        read_on(camera)
    assert "\n" not in str(loss.value)
    return time.monotonic() - began
