"""RTSP cameras with odd clocks, and ones that give no stream: what the driver, `check` and the line say of
them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import drivers
from drivers.camera import CameraError, CameraLost
from monitor.commands import stream_times
from tests.real.cameras import RtspServer
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.odd_rtsp import OddRtsp, make_clip
from tests.real.watching import age_s

TICKS = 90_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.h264")


@pytest.fixture
def still(clip: Path) -> Iterator[OddRtsp]:
    with OddRtsp(clip, stamp=lambda number: 5) as camera:
        yield camera


def test_stamps_that_stand_still_are_told_at_the_first_image_and_by_check(still: OddRtsp) -> None:
    camera = drivers.open(still.url)
    camera.open()
    shot = camera.read(1.0)
    assert shot is not None
    assert shot.pixels is not None, "the image itself is usable, as for training"
    problem = stream_times.find_problem(still.url, camera, shot)
    camera.close()
    assert problem is not None
    assert "its time stamps stand still" in problem
    assert "add the option clock=arrival" in problem


def test_a_person_can_choose_arrival_as_the_time(still: OddRtsp) -> None:
    camera = drivers.open(f"{still.url}?clock=arrival")
    camera.open()
    for _ in range(12):
        shot = camera.read(1.0)
        assert shot is not None
        assert (shot.undated, shot.device_ns) == (None, None)
        assert age_s(shot) < 0.3
    time.sleep(2)
    shot = camera.read(1.0)
    camera.close()
    assert shot is not None
    assert 1.5 < age_s(shot) < 2.5, "an image that waited here is old all the same"


def test_check_names_stamps_that_run_at_another_rate(clip: Path) -> None:
    with OddRtsp(clip, stamp=lambda number: round(number / 25 * TICKS)) as camera:
        driver = drivers.open(camera.url)
        driver.open()
        shot = driver.read(1.0)
        assert shot is not None
        problem = stream_times.find_problem(camera.url, driver, shot)
        driver.close()
    assert problem is not None
    assert "too slow" in problem


def test_a_network_that_is_too_slow_is_no_slow_clock(clip: Path) -> None:
    """Images come every 113 ms in place of 100 from the first one on, as with stamps that run 12 % slow."""
    rate = clip.stat().st_size / 40 * 10 * 0.88
    with OddRtsp(clip, bytes_per_s=rate) as camera:
        driver = drivers.open(camera.url)
        driver.open()
        offsets = []
        with contextlib.suppress(CameraLost):
            while len(offsets) < 150:
                shot = driver.read(1.0)
                assert shot is not None
                assert shot.device_ns is not None
                offsets.append((shot.captured_ns - shot.device_ns) / 1e6)
        driver.close()
    assert len(offsets) < 150, "a camera whose images stay late is lost"
    assert max(offsets) - offsets[0] < 100, "no image is dated newer than it is"
    assert len(offsets) > 30


def test_a_slow_camera_is_told_in_time(clip: Path) -> None:
    with OddRtsp(clip, fps=0.2) as camera:
        driver = drivers.open(camera.url)
        began = time.monotonic()
        with pytest.raises(CameraError, match="no image within 3 s: set its frame rate"):
            driver.open()
        assert time.monotonic() - began < 10


def test_a_wrong_path_and_a_wrong_password_each_have_a_message() -> None:
    with RtspServer(user="operator", password="geheim7") as server:
        for url, words in (
            (server.url.replace("/live", "/life"), "no stream at this path"),
            (server.url.replace("geheim7", "falsch9"), "refuses the user or the password"),
            (server.url.replace("operator:geheim7@", ""), "asks for a user and a password"),
        ):
            with pytest.raises(CameraError, match=words):
                drivers.open(url).open()


def test_a_camera_that_sends_by_udp_alone_is_told_with_the_option_that_helps() -> None:
    with RtspServer(udp_only=True) as server:
        with pytest.raises(CameraError, match="add the option transport=udp to the source"):
            drivers.open(server.url).open()
        server.stop()
        server.start()
        camera = drivers.open(f"{server.url}?transport=udp")
        camera.open()
        shot = camera.read(1.0)
        camera.close()
    assert shot is not None
    assert shot.undated is None
    assert age_s(shot) < 0.3


@pytest.mark.slow
def test_a_drifting_camera_is_judged_and_one_without_times_is_not(
    tmp_path: Path, write_config: Callable[..., Path], broker: Mosquitto, clip: Path
) -> None:
    """Stamps that run 5 % slow would make images 600 ms old after 12 s, if they were believed."""

    def camera(name: str, url: str) -> str:
        return f'[[camera]]\nname = "{name}"\nsource = "{url}"\nrecipe = "plate"\ndeadline_ms = 500\n'

    slow, frozen = OddRtsp(clip, stamp=lambda n: round(n * 0.095 * TICKS)), OddRtsp(clip, stamp=lambda n: 5)
    with slow, frozen:
        config = write_config(camera("slow", slow.url) + camera("still", frozen.url))
        with Line(config, broker.port) as line:
            line.wait_for(
                lambda: line.witness.status().get("cameras") == {"slow": "up", "still": "undated"},
                60,
                "cameras",
            )
            line.wait_for(lambda: line.witness.status()["reason"] == "camera_undated", 10, "the reason")
            assert line.witness.status()["ready"] is False
            since = time.monotonic()
            time.sleep(12)
            verdicts = [message.payload for message in line.witness.heard("slow/verdict", since=since)]
            assert len(verdicts) > 80
            judged = [verdict for verdict in verdicts if verdict["verdict"] != "uninspected"]
            assert len(judged) >= 0.95 * len(verdicts), verdicts[-3:]
            others = [message.payload for message in line.witness.heard("still/verdict", since=since)]
            assert {other["reason"] for other in others} == {"bad_frame"}
            said = line.log.read_text()
            assert "camera still is undated" in said
            assert "its time stamps stand still" in said
