"""Folders and clips as cameras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import drivers


class Clock:
    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Grey levels 0, 20, 40, ... in name order, of all suffixes."""
    folder = tmp_path / "good parts"
    folder.mkdir()
    for number, suffix in enumerate((".png", ".PNG", ".bmp", ".tif", ".webp", ".Jpg")):
        image = np.full((32, 48, 3), 20 * number, np.uint8)
        (folder / f"{number:02}{suffix}").write_bytes(cv2.imencode(suffix.lower(), image)[1].tobytes())
    (folder / "notes.txt").write_text("not an image")
    (folder / "below").mkdir()
    return folder


def source(folder: Path, options: str = "") -> str:
    return f"folder://{str(folder).replace(' ', '%20')}{options}"


def test_images_come_in_name_order_and_end(images: Path, clock: Clock) -> None:
    camera = drivers.open(source(images, "?fps=20"), clock, clock.sleep)
    camera.open()
    start = clock.now
    for number in range(6):
        shot = camera.read(1.0)
        assert shot is not None
        assert shot.pixels is not None
        assert shot.pixels.shape == (32, 48, 3)
        assert abs(int(shot.pixels[5, 5, 0]) - 20 * number) <= 2
        assert shot.device_frame == number
        assert shot.captured_ns == start + number * 50_000_000
    with pytest.raises(drivers.SourceEnded, match="all 6 images"):
        camera.read(1.0)


def test_a_loop_goes_on_counting(images: Path, clock: Clock) -> None:
    camera = drivers.open(source(images, "?loop=1"), clock, clock.sleep)
    camera.open()
    shots = [camera.read(1.0) for _ in range(14)]
    assert [shot.device_frame for shot in shots if shot] == list(range(14))
    assert shots[13] is not None
    assert shots[13].pixels is not None
    assert abs(int(shots[13].pixels[5, 5, 0]) - 20) <= 2


@pytest.mark.parametrize("broken", [b"", b"\x89PNG\r\n\x1a\n then nothing"])
def test_an_unreadable_image_is_a_shot_without_pixels(images: Path, clock: Clock, broken: bytes) -> None:
    """Left out, it would shift every later verdict to the wrong file."""
    (images / "02.bmp").write_bytes(broken)
    camera = drivers.open(source(images), clock, clock.sleep)
    camera.open()
    shots = [camera.read(1.0) for _ in range(6)]
    assert [shot.device_frame for shot in shots if shot] == list(range(6))
    assert [shot is not None and shot.pixels is None for shot in shots] == [k == 2 for k in range(6)]
    assert shots[2] is not None
    assert shots[2].fault == "02.bmp is not a readable image"


def test_mono_and_16_bit_images_keep_their_depth(tmp_path: Path, clock: Clock) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((8, 8), 700, np.uint16))
    cv2.imwrite(str(tmp_path / "c.tif"), np.full((8, 8, 3), 0x1234, np.uint16))
    cv2.imwrite(str(tmp_path / "d.png"), np.full((8, 8, 4), 9, np.uint8))
    camera = drivers.open(f"folder://{tmp_path}", clock, clock.sleep)
    camera.open()
    shots = [camera.read(1.0) for _ in range(4)]
    assert [shot.pixel_format for shot in shots if shot] == ["Mono8", "Mono16", "BGR8", "BGR8"]
    assert [int(shot.pixels.flat[0]) for shot in shots if shot and shot.pixels is not None] == [
        7,
        700,
        0x12,
        9,
    ]


def test_a_slow_reader_loses_nothing(images: Path, clock: Clock) -> None:
    camera = drivers.open(source(images, "?fps=10"), clock, clock.sleep)
    camera.open()
    for number in range(6):
        shot = camera.read(1.0)
        assert shot is not None
        assert (shot.device_frame, shot.missed) == (number, 0)
        assert clock.now - shot.captured_ns == 0
        clock.sleep(1.0)


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(drivers.CameraError, match="no images in"):
        drivers.open(f"folder://{tmp_path}").open()
    with pytest.raises(drivers.CameraError, match="No such file"):
        drivers.open(f"folder://{tmp_path}/missing").open()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """12 images at 25 a second, each brighter than the one before."""
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return file


def test_a_clip_plays_at_its_own_speed_and_ends(clip: Path, clock: Clock) -> None:
    camera = drivers.open(f"file://{clip}", clock, clock.sleep)
    camera.open()
    start = clock.now
    for number in range(12):
        shot = camera.read(1.0)
        assert shot is not None
        assert shot.pixels is not None
        assert abs(int(shot.pixels[9, 9, 0]) - 20 * number) <= 3
        assert (shot.device_frame, shot.pixel_format) == (number, "BGR8")
        assert shot.captured_ns == start + number * 40_000_000
    with pytest.raises(drivers.SourceEnded, match="after 12 images"):
        camera.read(1.0)


def test_a_clip_loops_at_the_speed_given(clip: Path, clock: Clock) -> None:
    camera = drivers.open(f"file://{clip}?loop=1&fps=5", clock, clock.sleep)
    camera.open()
    start = clock.now
    for number in range(30):
        shot = camera.read(1.0)
        assert shot is not None
        assert shot.pixels is not None
        assert shot.device_frame == number
        assert abs(int(shot.pixels[9, 9, 0]) - 20 * (number % 12)) <= 3
        assert shot.captured_ns == start + number * 200_000_000
    camera.close()


def test_what_is_not_a_clip_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(drivers.CameraError, match="can't be played"):
        drivers.open(f"file://{tmp_path}/x.mp4").open()
    with pytest.raises(drivers.CameraError, match="no such file"):
        drivers.open(f"file://{tmp_path}/y.mp4").open()


def test_ffmpeg_itself_says_nothing(tmp_path: Path) -> None:
    """Its log holds URLs with passwords. In a process of its own: FFmpeg reads the log level once."""
    (tmp_path / "x.mp4").write_bytes(b"nothing of the kind")
    script = (
        "import drivers\n"
        f"for source in ('file://{tmp_path}/x.mp4', 'rtsp://op:s3cret@127.0.0.1:1/live'):\n"
        "    try:\n"
        "        drivers.open(source).open()\n"
        "    except drivers.CameraError as error:\n"
        "        print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert ran.stderr == ""
    assert len(ran.stdout.splitlines()) == 2
    assert "s3cret" not in ran.stdout
