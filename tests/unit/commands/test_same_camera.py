"""One camera in two tables of the settings is found, also by two of its names."""

from __future__ import annotations

import pytest

from drivers.camera import CameraError
from drivers.gige import DiscoveredCamera
from monitor.commands.same_camera import find_contended, find_shared
from monitor.settings import CameraSettings


def cameras(**sources: str) -> list[CameraSettings]:
    return [CameraSettings(name=name, source=source, recipe="plate") for name, source in sources.items()]


def test_two_cameras_of_one_stream_are_named_without_its_password() -> None:
    found = cameras(top="rtsp://me:secret@10.0.0.9/s", mid="rtsp://10.0.0.8/s", side="rtsp://10.0.0.9:554/S")
    (line,) = find_shared(found)
    assert line.startswith("'top' and 'side' both read rtsp://***@10.0.0.9/s: right for two recipes")
    assert "secret" not in line


def test_two_simulated_cameras_are_two() -> None:
    assert list(find_shared(cameras(top="simulated://plate", side="simulated://plate"))) == []


def test_two_names_of_one_gige_camera_are_found_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [
        DiscoveredCamera("Basler-21", "Basler", "ace", "21", "10.0.0.7", "gige://Basler-21"),
        DiscoveredCamera("Basler-22", "Basler", "ace", "22", "10.0.0.8", "gige://Basler-22"),
    ]
    monkeypatch.setattr("drivers.gige.discover", lambda: there)
    for second in ("10.0.0.7", "21"):
        (line,) = find_contended(cameras(top="gige://Basler-21", mid="gige://22", side=f"gige://{second}"))
        assert line.startswith("'top' and 'side' are one GigE Vision camera at 10.0.0.7")
    assert list(find_contended(cameras(top="gige://Basler-21", side="gige://10.0.0.8"))) == []


def test_nothing_is_asked_of_the_network_for_one_gige_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("asked")

    monkeypatch.setattr("drivers.gige.discover", fail)
    assert list(find_contended(cameras(top="gige://Basler-21", side="simulated://plate"))) == []


def test_a_machine_without_gige_software_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise CameraError("no Aravis")

    monkeypatch.setattr("drivers.gige.discover", fail)
    assert list(find_contended(cameras(top="gige://Basler-21", side="gige://10.0.0.8"))) == []
