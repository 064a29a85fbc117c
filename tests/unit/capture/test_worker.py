"""Every exposure gets a frame number, with the time of its arrival, whatever is wrong with its image."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.camera import Shot
from monitor.capture.worker import Clocks, FreezeWatch, Intake
from monitor.line_state.frame import PixelFormat, publishing_margin_ms
from monitor.line_state.ring import FinalVerdict, Ring, Stage, Tally
from monitor.settings import CameraSettings
from monitor.verdict import Reason, Verdict

NOW, UTC = 10_000_000_000, 1_700_000_000_000_000_000
MS = 1_000_000


def camera(**more: object) -> CameraSettings:
    return CameraSettings(name="top", source="simulated://plate", recipe="plate", **more)  # type: ignore[arg-type]


def intake(ring: Ring, **more: object) -> tuple[Intake, list[int]]:
    announced: list[int] = []
    return Intake(camera(**more), ring, announced.append, Clocks(lambda: NOW, lambda: UTC)), announced


def shot(**more: object) -> Shot:
    values: dict[str, object] = {
        "pixels": np.full((8, 10, 3), 9, np.uint8),
        "pixel_format": "BGR8",
        "captured_ns": NOW - 5 * MS,
        **more,
    }
    return Shot(**values)  # type: ignore[arg-type]


def test_a_shot_becomes_a_frame_with_its_times_counted_from_its_arrival(ring: Ring) -> None:
    took, announced = intake(ring, deadline_ms=200, actuate_ms=600)
    assert took.admit(shot(device_ns=77, device_frame=3)) is None
    frame = ring.frame(1)
    assert frame is not None
    captured = NOW - 5 * MS
    assert frame.captured_ns == captured
    assert frame.captured_utc_ns == UTC - 5 * MS
    assert frame.deadline_ns == captured + 200 * MS
    assert frame.expires_ns == captured + 600 * MS
    assert frame.decide_by_ns == captured + int((200 - publishing_margin_ms(200)) * MS)
    assert (frame.device_ns, frame.device_frame) == (77, 3)
    assert (frame.format, frame.height, frame.width) == (PixelFormat.BGR8, 8, 10)
    assert (ring.pixels(frame) == 9).all()
    assert announced == [1]


def test_missed_exposures_get_frames_of_their_own(ring: Ring) -> None:
    took, _ = intake(ring)
    took.admit(shot(device_frame=3, device_ns=30))
    assert took.admit(shot(missed=2, device_frame=6, device_ns=60)) == "2 exposures never arrived"
    assert ring.last_frame() == 4
    frames = [ring.frame(number) for number in range(1, 5)]
    assert [(one.device_frame, one.device_ns) for one in frames if one] == [
        (3, 30),
        (-1, -1),
        (-1, -1),
        (6, 60),
    ]
    assert [getattr(ring.frame(n), "refused", None) for n in (1, 2, 3, 4)] == [
        Reason.NONE,
        Reason.NO_FRAME,
        Reason.NO_FRAME,
        Reason.NONE,
    ]


@pytest.mark.parametrize(
    ("more", "settings", "why"),
    [
        ({"pixels": None, "fault": "incomplete buffer"}, {}, "incomplete buffer"),
        ({"pixel_format": "YUV422_8"}, {}, "not supported"),
        ({}, {"roi": (5, 0, 8, 4)}, "reaches outside"),
        ({"pixels": np.zeros((8, 8), np.uint8), "pixel_format": "BayerRG8"}, {"roi": (1, 0, 4, 4)}, "even"),
    ],
)
def test_an_unusable_image_is_a_bad_frame_with_a_reason(
    ring: Ring, more: dict[str, object], settings: dict[str, object], why: str
) -> None:
    took, announced = intake(ring, **settings)
    assert why in str(took.admit(shot(**more)))
    frame = ring.frame(1)
    assert frame is not None
    assert (frame.refused, frame.slot, announced) == (Reason.BAD_FRAME, -1, [])


def test_a_frozen_cameras_frames_are_never_judged(ring: Ring) -> None:
    took, announced = intake(ring)
    assert "frozen" in str(took.admit(shot(), frozen=True))
    frame = ring.frame(1)
    assert frame is not None
    assert (frame.refused, announced) == (Reason.BAD_FRAME, [])


def test_an_image_whose_time_cant_be_told_is_never_judged(ring: Ring) -> None:
    took, announced = intake(ring)
    assert took.admit(shot(undated="its time stamps stand still")) == "its time stamps stand still"
    frame = ring.frame(1)
    assert frame is not None
    assert (frame.refused, announced) == (Reason.BAD_FRAME, [])


@pytest.mark.parametrize(
    ("mode", "reason"), [("every-part", Reason.QUEUE_FULL), ("latest", Reason.SUPERSEDED)]
)
def test_without_a_free_slot_the_part_is_uninspected_not_lost(ring: Ring, mode: str, reason: Reason) -> None:
    took, announced = intake(ring, mode=mode)
    while len(announced) == ring.last_frame():
        took.admit(shot())
    frame = ring.frame(ring.last_frame())
    assert frame is not None
    assert (frame.refused, frame.slot) == (reason, -1)


def test_only_the_region_of_interest_is_kept(ring: Ring) -> None:
    pixels = np.arange(80, dtype=np.uint8).reshape(8, 10)
    took, _ = intake(ring, roi=(2, 3, 4, 2))
    took.admit(shot(pixels=pixels, pixel_format="Mono8"))
    frame = ring.frame(1)
    assert frame is not None
    assert np.array_equal(ring.pixels(frame), pixels[3:5, 2:6])


def test_after_a_restart_numbers_go_on(ring: Ring) -> None:
    first, _ = intake(ring)
    first.admit(shot())
    second, announced = intake(ring)
    second.admit(shot())
    assert announced == [2]


def test_frames_that_the_publisher_has_not_closed_are_never_overwritten(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    took, _ = intake(ring)
    monkeypatch.setattr("monitor.line_state.ring.RECORDS", 4)
    for _ in range(4):
        assert took.admit(shot()) is None
    assert "publisher" in str(took.admit(shot()))
    assert (ring.last_frame(), ring.overruns()) == (4, 1)
    ring.write_closed(1, FinalVerdict(Verdict.PASS, Reason.NONE, True, False, 0, 0))
    ring.write_stage(1, Stage.SENT)
    ring.write_tally(Tally(cursor=1, passed=1))
    assert took.admit(shot()) is None
    assert ring.last_frame() == 5


def test_a_camera_whose_own_clock_stands_still_is_frozen() -> None:
    watch = FreezeWatch()
    step = 400 * MS
    same = [watch.is_frozen(shot(captured_ns=NOW + i * step, device_ns=5)) for i in range(6)]
    assert same == [False, False, False, True, True, True]
    assert not watch.is_frozen(shot(captured_ns=NOW + 6 * step, device_ns=6))


def test_a_camera_without_its_own_time_stamps_is_never_frozen() -> None:
    watch = FreezeWatch()
    assert not any(watch.is_frozen(shot(captured_ns=NOW + i * 1000 * MS)) for i in range(20))


def test_a_frame_that_fits_in_no_slot_is_a_bad_frame_with_a_reason(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image of a folder may be larger than the others, which still get their verdicts."""
    took, announced = intake(ring)
    monkeypatch.setattr("monitor.line_state.ring.SLOT_STRIDE", 100)
    assert "larger than a slot" in str(took.admit(shot()))
    assert took.admit(shot(pixels=np.full((5, 5, 3), 9, np.uint8))) is None
    assert [getattr(ring.frame(n), "refused", None) for n in (1, 2)] == [Reason.BAD_FRAME, Reason.NONE]
    assert announced == [2]
