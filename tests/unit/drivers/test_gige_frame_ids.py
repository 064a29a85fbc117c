"""GigE Vision without a camera: the count of frame ids, and the message when Aravis is missing."""

from __future__ import annotations

import sys

import pytest

import drivers
from drivers.gige import FrameCounter


def counted(ids: list[int]) -> list[tuple[int, int]]:
    counter = FrameCounter()
    return [counter.count(frame_id) for frame_id in ids]


def test_ids_are_counted_from_the_first_and_gaps_are_missed() -> None:
    assert counted([65400, 65401, 65404, 65405]) == [(0, 0), (1, 0), (4, 2), (5, 0)]


def test_16_bit_ids_wrap_without_0() -> None:
    """GigE Vision 1 skips 0: 1 follows 65535."""
    assert counted([65534, 65535, 1, 2]) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert counted([65534, 2]) == [(0, 0), (3, 2)]


def test_16_bit_ids_wrap_with_0() -> None:
    assert counted([65535, 0, 1]) == [(0, 0), (1, 0), (2, 0)]


def test_64_bit_ids_go_on() -> None:
    assert counted([65534, 65535, 65536, 65539]) == [(0, 0), (1, 0), (2, 0), (5, 2)]
    assert counted([2**40, 2**40 + 1]) == [(0, 0), (1, 0)]


def test_a_camera_that_counts_anew_has_not_lost_thousands() -> None:
    assert counted([5000, 5001, 1, 2]) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert counted([2**40, 1, 2]) == [(0, 0), (1, 0), (2, 0)]


def test_the_same_id_twice_stands_still() -> None:
    """A frozen camera is found by a count that does not change."""
    assert counted([7, 7]) == [(0, 0), (0, 0)]


def test_without_aravis_the_message_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    camera = drivers.open("gige://Basler-21876543")
    with pytest.raises(drivers.CameraError, match=r"pip install line-monitor\[gige\].*gir1.2-aravis-0.8"):
        camera.open()
    camera.close()
