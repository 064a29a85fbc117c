"""The RTSP driver with a real server: correct times, losses found in time, no secret in a message."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

import drivers
from drivers.camera import Camera, CameraError, CameraLost, Shot
from tests.real.cameras import RtspServer
from tests.real.watching import age_s, lost_after, read_on

pytestmark = pytest.mark.xdist_group("cameras")


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer(fps=25) as running:
        yield running


@pytest.fixture
def camera(server: RtspServer) -> Iterator[Camera]:
    opened = drivers.open(server.url)
    opened.open()
    yield opened
    opened.close()


def shot_of(camera: Camera) -> Shot:
    shot = camera.read(1.0)
    assert shot is not None
    return shot


@pytest.mark.timing
def test_images_come_live_with_rising_times(camera: Camera) -> None:
    shots = [shot_of(camera)]
    assert age_s(shots[0]) < 0.3, "the first image must not be an image that the server had stored"
    # If the machine itself pauses, images become old, which the driver can't change.
    until = time.monotonic() + 20
    while len(shots) < 51:
        shot = shot_of(camera)
        age = age_s(shot)
        assert age >= 0
        assert time.monotonic() < until, "the stream was never live for 2 s"
        shots = [*shots, shot] if age < 0.3 else []
    assert all(shot.pixels is not None and shot.pixels.shape == (240, 320, 3) for shot in shots)
    assert all(shot.pixel_format == "BGR8" for shot in shots)
    stamps = [shot.device_ns for shot in shots]
    assert all(b - a == 40_000_000 for a, b in pairwise(stamps) if a and b)
    steps = [(b.captured_ns - a.captured_ns) / 1e6 for a, b in pairwise(shots)]
    assert sum(steps) / len(steps) == pytest.approx(40, abs=3)


@pytest.mark.timing
def test_after_a_stall_old_images_keep_their_old_times(camera: Camera) -> None:
    """FFmpeg delivers the stored images at once. With new times each verdict would belong to a wrong part."""
    for _ in range(20):
        before = shot_of(camera)
    time.sleep(5)
    first = shot_of(camera)
    assert first.captured_ns - before.captured_ns < 0.3e9
    assert 4.5 < age_s(first) < 5.5
    previous = first
    for _ in range(300):
        shot = shot_of(camera)
        assert shot.captured_ns > previous.captured_ns
        previous = shot
        if age_s(shot) < 0.2:
            break
    assert age_s(previous) < 0.2, "the backlog never ended"


@pytest.mark.timing
def test_a_server_that_hangs_is_lost_within_5_s_and_comes_back(server: RtspServer, camera: Camera) -> None:
    for _ in range(5):
        shot_of(camera)
    server.pause()
    assert lost_after(camera) < 4.5
    camera.close()
    server.resume()
    camera.open()
    assert age_s(shot_of(camera)) < 0.3


@pytest.mark.timing
def test_a_server_that_dies_is_lost_within_5_s_and_comes_back(server: RtspServer, camera: Camera) -> None:
    shot_of(camera)
    server.kill()
    assert lost_after(camera) < 4.5
    camera.close()
    began = time.monotonic()
    with pytest.raises(CameraError, match="no stream from"):
        camera.open()
    assert time.monotonic() - began < 10
    server.start()
    camera.open()
    assert age_s(shot_of(camera)) < 0.3


def test_credentials_are_never_said(capfd: pytest.CaptureFixture[str]) -> None:
    with RtspServer(user="operator", password="geheim7") as server:
        said = []
        wrong = drivers.open(server.url.replace("geheim7", "falsch9"))
        with pytest.raises(CameraError) as refusal:
            wrong.open()
        said += [str(refusal.value), repr(wrong), repr(refusal.value.__context__)]
        right = drivers.open(server.url)
        right.open()
        shot_of(right)
        server.kill()
        with pytest.raises(CameraLost) as loss:
            read_on(right)
        said += [str(loss.value), repr(right)]
        right.close()
    said += capfd.readouterr()
    for text in said:
        assert "operator" not in text
        assert "geheim7" not in text
        assert "falsch9" not in text


def test_udp_and_the_cameras_own_query(server: RtspServer) -> None:
    camera = drivers.open(f"{server.url}?transport=udp&channel=1")
    camera.open()
    assert shot_of(camera).pixels is not None
    camera.close()


def test_a_folder_of_images_is_served(tmp_path: Path) -> None:
    """Other tests use this: known parts in a real stream."""
    for number, level in enumerate((60, 180)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((96, 128, 3), level, np.uint8))
    with RtspServer(fps=10, folder=tmp_path) as server:
        camera = drivers.open(server.url)
        camera.open()
        levels = []
        for _ in range(6):
            pixels = shot_of(camera).pixels
            assert pixels is not None
            assert pixels.shape == (96, 128, 3)
            levels.append(round(float(pixels.mean()) / 60) * 60)
        camera.close()
    assert levels in ([60, 180] * 3, [180, 60] * 3)


def test_a_password_is_taken_as_it_is_typed(capfd: pytest.CaptureFixture[str]) -> None:
    """FFmpeg alone would end the host at the first of these characters."""
    with RtspServer(user="line op", password="p@ss/w#rd?50%off&x=1:2") as server:
        camera = drivers.open(server.url + "?transport=tcp")
        camera.open()
        assert shot_of(camera).pixels is not None
        camera.close()
    assert "w#rd" not in "".join(capfd.readouterr())
