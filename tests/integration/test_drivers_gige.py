"""The GigE driver with Aravis' fake camera, which is a GigE Vision device on the loopback network."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import drivers
from drivers import gige
from drivers.camera import Camera, CameraError, Shot
from tests.real.cameras import GigeCamera
from tests.real.watching import age_s, lost_after

pytestmark = pytest.mark.gige


@pytest.fixture
def device() -> Iterator[GigeCamera]:
    with GigeCamera("SN01") as running:
        yield running


def opened(source: str) -> Camera:
    camera = drivers.open(source)
    camera.open()
    return camera


def await_open(camera: Camera, within_s: float) -> None:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            camera.open()
        except CameraError as error:
            refused = error
        else:
            return
    raise refused


def shot_of(camera: Camera) -> Shot:
    shot = camera.read(2.0)
    assert shot is not None
    return shot


def test_it_is_found_and_its_source_opens_it(device: GigeCamera) -> None:
    found = [camera for camera in gige.discover() if camera.serial == "SN01"]
    assert [camera.source for camera in found] == [device.source]
    assert (found[0].vendor, found[0].model, found[0].address) == ("Aravis", "Fake", "127.0.0.1")
    for name in (found[0].source, "gige://SN01", "gige://127.0.0.1", "gige://aravis-sn01"):
        camera = opened(name)
        assert shot_of(camera).pixels is not None
        camera.close()


def test_images_come_live_with_rising_times_over_the_wrap(device: GigeCamera) -> None:
    """The fake camera's frame ids begin near 65400, so the 16-bit wrap-around comes within 160 images."""
    camera = opened(f"{device.source}?fps=50")
    before = shot_of(camera)
    assert (before.device_frame, before.missed) == (0, 0)
    for number in range(1, 160):
        shot = shot_of(camera)
        assert shot.pixels is not None
        assert (shot.pixels.shape, shot.pixel_format) == ((512, 512), "Mono8")
        assert (shot.device_frame, shot.missed) == (number, 0)
        assert shot.captured_ns > before.captured_ns
        assert shot.device_ns is not None
        assert before.device_ns is not None
        assert shot.device_ns > before.device_ns
        assert 0 <= age_s(shot) < 0.3
        before = shot
    camera.close()


def test_after_a_stall_times_are_old_and_losses_counted(device: GigeCamera) -> None:
    camera = opened(device.source)
    for _ in range(10):
        before = shot_of(camera)
    time.sleep(3)
    shot = shot_of(camera)
    assert shot.captured_ns - before.captured_ns < 0.3e9
    frames, missed = 0, 0
    # An incomplete image has no stamp and gets the time of its arrival, so it does not show the age.
    while shot.fault is not None or age_s(shot) > 0.2:
        shot = shot_of(camera)
        frames, missed = frames + 1, missed + shot.missed
        assert frames < 200
    assert missed > 20, "the buffers can't hold images of 3 s"
    assert before.device_frame is not None
    assert shot.device_frame == before.device_frame + 1 + frames + missed
    camera.close()


def test_a_dead_camera_is_lost_in_time_and_comes_back(device: GigeCamera) -> None:
    camera = opened(device.source)
    shot_of(camera)
    device.kill()
    assert lost_after(camera) < 5
    began = time.monotonic()
    camera.close()
    camera.close()
    assert time.monotonic() - began < 1
    with pytest.raises(CameraError, match="no such camera found"):
        camera.open()
    device.start()
    camera.open()
    assert age_s(shot_of(camera)) < 0.3
    camera.close()


def test_a_camera_that_its_program_died_on_sends_to_the_next_one(device: GigeCamera) -> None:
    reads = (
        "import sys, drivers; c = drivers.open(sys.argv[1]); c.open(); print(c.read(2).missed, flush=True)"
    )
    command = [sys.executable, "-c", reads + "; import time; time.sleep(60)", device.source]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"0\n"
        program.kill()
    camera = drivers.open(device.source)
    # The camera stays under the control of the ended program until it has missed its heartbeats.
    await_open(camera, 10)
    assert age_s(shot_of(camera)) < 0.3
    camera.close()


def test_a_camera_that_answers_but_sends_nothing_is_lost_and_started_anew(device: GigeCamera) -> None:
    camera = opened(device.source)
    shot_of(camera)
    device.withhold_images()
    assert lost_after(camera) < 5
    camera.close()
    camera.open()
    assert age_s(shot_of(camera)) < 0.3
    camera.close()


def test_a_triggered_camera_is_silent_but_not_lost(device: GigeCamera) -> None:
    """There are no triggers while the belt stands still. That must not stop the line."""
    camera = opened(device.source + "?trigger=hardware:Software")
    began = time.monotonic()
    while time.monotonic() - began < 5:
        assert camera.read(0.5) is None
    device.kill()
    assert lost_after(camera) < 5
    camera.close()


def test_software_trigger_and_settings(device: GigeCamera) -> None:
    camera = opened(device.source + "?trigger=software&fps=10&exposure_us=2000&gain=1&pixel_format=RGB8")
    shot_of(camera)
    began = time.monotonic()
    for _ in range(10):
        shot = shot_of(camera)
        assert shot.pixels is not None
        assert (shot.pixels.shape, shot.pixel_format) == ((512, 512, 3), "RGB8")
    assert 0.8 < time.monotonic() - began < 1.6
    camera.close()


def test_what_the_camera_cannot_do_is_said(device: GigeCamera) -> None:
    with pytest.raises(CameraError, match=r"pixel_format='Mono12p': the camera has .*Mono8"):
        opened(device.source + "?pixel_format=Mono12p")
    with pytest.raises(CameraError, match=r"no such camera found; there are: Aravis-Fake-SN01"):
        opened("gige://Basler-21876543")


def test_a_camera_in_other_hands_is_refused(device: GigeCamera) -> None:
    camera = opened(device.source)
    with pytest.raises(CameraError, match="controlled by another program"):
        opened(device.source)
    assert shot_of(camera).pixels is not None
    camera.close()
