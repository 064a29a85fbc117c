"""Two sources of one device are found, however they are written; sources of two devices are kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers import device_identity, rtsp
from drivers.device_identity import are_one_device, find_device, is_exclusive


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gige://Basler-21876543", "GIGE://basler-21876543?trigger=software&exposure_us=200"),
        ("gige://10.0.0.7", "gige://10.0.0.7/"),
        ("gige://The%20Imaging-1", "gige://the imaging-1"),
        ("rtsp://10.0.0.9/stream1", "rtsp://user:p@ss/w0rd#1@10.0.0.9:554/Stream1/"),
        (
            "rtsp://cam.local/s?channel=1&subtype=0",
            "rtsps://CAM.local:554/s?subtype=0&transport=udp&channel=1",
        ),
        ("rtsp://cam.local/1?clock=arrival", "rtsp://cam.local/1"),
        ("rtsp://cam.local/1?clock=stamps&transport=udp", "rtsp://cam.local/1?transport=tcp&"),
        ("rtsp://cam.local/s?channel=1&clock=arrival", "rtsp://cam.local/s?channel=1"),
        ("rtsp://[fe80::1]/s", "rtsp://[FE80::1]:554/s"),
        ("folder:///parts/a", "folder:///parts/b/../a/?fps=10&loop=1"),
        ("file:///parts/clip.mp4", "file:///parts//clip.mp4?fps=5"),
    ],
)
def test_sources_of_one_device_name_the_same_device(one: str, other: str) -> None:
    assert find_device(one) is not None
    assert find_device(one) == find_device(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gige://Basler-21876543", "gige://Basler-21876544"),
        ("rtsp://10.0.0.9/stream1", "rtsp://10.0.0.9/stream2"),
        ("rtsp://10.0.0.9/s?channel=1", "rtsp://10.0.0.9/s?channel=2"),
        ("rtsp://10.0.0.9/s?clockwise=1", "rtsp://10.0.0.9/s?clockwise=2"),
        ("rtsp://10.0.0.9:554/s", "rtsp://10.0.0.9:8554/s"),
        ("rtsp://user:1@10.0.0.9/s", "rtsp://user:1@10.0.0.10/s"),
        ("folder:///parts/A", "folder:///parts/a"),
        ("folder:///10.0.0.9", "gige://10.0.0.9"),
    ],
)
def test_sources_of_two_devices_are_kept_apart(one: str, other: str) -> None:
    assert find_device(one) != find_device(other)


def test_a_link_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "link").symlink_to("good")
    assert find_device(f"folder://{tmp_path}/good") == find_device(f"folder://{tmp_path}/link")


@pytest.mark.parametrize(
    "source", ["simulated://plate", "/parts", "usb://0", "rtsp://[::1/x", "rtsp://h:port/s"]
)
def test_a_source_without_a_device_names_none(source: str) -> None:
    assert find_device(source) is None
    assert not are_one_device(source, source)


def test_only_a_gige_camera_serves_one_program_at_a_time() -> None:
    assert is_exclusive("GigE://x")
    assert not is_exclusive("rtsp://x/s")


def test_every_option_of_the_rtsp_driver_is_known_here() -> None:
    assert {"", *rtsp._OPTIONS} == set(device_identity._RTSP_OPTIONS)
