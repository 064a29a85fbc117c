"""The driver opens cameras whose time stamps tell nothing, and never shows what may be a password."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from drivers import rtsp
from drivers.camera import CameraError, CameraLost

MS = 1_000_000


class Stream:
    """Stands in for FFmpeg's capture: an image each 100 ms, with the stamps that a test chooses."""

    def __init__(self, stamp_ms: Callable[[int], float], stored: int = 0) -> None:
        self._stamp_ms, self._stored = stamp_ms, stored
        self._number = self.now_ns = 0

    def clock(self) -> int:
        return self.now_ns

    def grab(self) -> bool:
        self._number += 1
        self.now_ns += MS if self._number <= self._stored else 100 * MS
        return True

    def get(self, _: int) -> float:
        return self._stamp_ms(self._number)

    def retrieve(self) -> tuple[bool, object]:
        return True, np.zeros((8, 8, 3), np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def open_camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., rtsp.RtspCamera]:
    def open_it(stream: Stream, source: str = "rtsp://h/x", waited: bool = True) -> rtsp.RtspCamera:
        monkeypatch.setattr(rtsp, "open_capture", lambda url, options: stream)
        monkeypatch.setattr(rtsp, "find_connection", lambda sockets, port: None)
        monkeypatch.setattr(rtsp, "_grab", lambda capture: (capture.grab(), waited))
        camera = rtsp.RtspCamera(source, stream.clock)
        camera.open()
        return camera

    return open_it


USELESS: list[Callable[[int], float]] = [
    lambda number: number * 250.0,
    lambda number: number * 100_000.0,
    lambda number: 0.0,
    lambda number: -1.0,
    lambda number: float(number * 7919 % 101 * 1000),
]


@pytest.mark.parametrize("stamp_ms", USELESS)
def test_a_camera_whose_stamps_tell_nothing_opens_and_is_undated(
    open_camera: Callable[..., rtsp.RtspCamera], stamp_ms: Callable[[int], float]
) -> None:
    camera = open_camera(Stream(stamp_ms))
    for _ in range(40):
        shot = camera.read(1.0)
    assert shot is not None
    assert shot.undated is not None
    assert "add the option clock=arrival" in shot.undated


@pytest.mark.parametrize("stamp_ms", [*USELESS, lambda number: number * 100.0 + number // 2 * 3.6e6])
def test_with_dating_by_arrival_it_opens_and_is_dated(
    open_camera: Callable[..., rtsp.RtspCamera], stamp_ms: Callable[[int], float]
) -> None:
    stream = Stream(stamp_ms)
    camera = open_camera(stream, "rtsp://h/x?clock=arrival")
    for _ in range(10):
        shot = camera.read(1.0)
        assert shot is not None
        assert (shot.undated, shot.captured_ns) == (None, stream.now_ns)


@pytest.mark.parametrize("source", ["rtsp://h/x", "rtsp://h/x?clock=arrival"])
def test_stored_images_are_not_live(open_camera: Callable[..., rtsp.RtspCamera], source: str) -> None:
    stream = Stream(lambda number: number * 100.0, stored=10_000)
    with pytest.raises(CameraError, match="no live images"):
        open_camera(stream, source, waited=False)


def test_without_rest_in_the_network_lateness_has_two_causes_and_a_way_out(
    open_camera: Callable[..., rtsp.RtspCamera],
) -> None:
    """A camera that spreads its packets evenly, with stamps that run 1 % slow."""
    camera = open_camera(Stream(lambda number: number * 99.0))
    with pytest.raises(CameraLost, match=r"too slow for them, or the camera's clock .* clock=arrival"):
        _read(camera, 400)


def _read(camera: rtsp.RtspCamera, images: int) -> None:
    for _ in range(images):
        camera.read(1.0)


@pytest.mark.parametrize(
    "source",
    ["rtsp://u:p?clock=secret@h/x", "rtsp://u:p?a=b&transport=secret@h/x", "rtsps://u:?clock=secret@h"],
)
def test_what_may_be_a_password_is_not_shown(source: str) -> None:
    with pytest.raises(CameraError) as error:
        rtsp.RtspCamera(source)
    assert "secret" not in str(error.value)
    assert "%3F" in str(error.value)


@pytest.mark.parametrize(
    ("option", "meant"), [("clok=arrival", "clock=arrival"), ("Transport=udp", "transport=udp")]
)
def test_a_mistyped_option_is_named_with_the_right_one(option: str, meant: str) -> None:
    with pytest.raises(CameraError, match=f"did you mean {meant}"):
        rtsp.RtspCamera(f"rtsp://h/x?channel=1&{option}")


def test_what_only_looks_like_an_option_reaches_the_camera() -> None:
    assert rtsp._split("RTSP://h/x?lock=1&clocks=2&transports=multicast") == (
        "rtsp://h/x?lock=1&clocks=2&transports=multicast",
        "tcp",
        "stamps",
    )
