"""Folders and clips as cameras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import drivers
from drivers.ffmpeg import open_capture
from drivers.image_file import find
from drivers.progress import Progress


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
    """Images with all suffixes and grey levels 0, 20, 40, ... in the order of their names."""
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


def giant_bmp() -> bytes:
    """Two flipped bytes of the header: 131,120 pixels wide and 131,104 high."""
    content = bytearray(cv2.imencode(".bmp", np.zeros((32, 48, 3), np.uint8))[1].tobytes())
    content[20] ^= 0x02
    content[24] ^= 0x02
    return bytes(content)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n then nothing", "the file is damaged"),
        (giant_bmp(), "131120x131104 pixels, more than 268 million"),
        (b"BM", "the file is damaged"),
        (b"\xff\xd8", "the file is cut short"),
        (b"II*\0" + b"\xff" * 60, "the file is damaged"),
        (b"<html>", "not a readable image"),
    ],
)
def test_an_unreadable_image_is_a_shot_without_pixels(
    images: Path, clock: Clock, broken: bytes, why: str
) -> None:
    """If the image were skipped, every later verdict would belong to the wrong file."""
    (images / "02.bmp").write_bytes(broken)
    camera = drivers.open(source(images), clock, clock.sleep)
    camera.open()
    shots = [camera.read(1.0) for _ in range(6)]
    assert [shot.device_frame for shot in shots if shot] == list(range(6))
    assert [shot is not None and shot.pixels is None for shot in shots] == [k == 2 for k in range(6)]
    assert shots[2] is not None
    assert shots[2].fault is not None
    assert shots[2].fault.startswith("02.bmp is not a readable image: ")
    assert why in shots[2].fault


def test_what_is_no_file_or_went_away_is_a_shot_without_pixels(images: Path, clock: Clock) -> None:
    (images / "00a.png").symlink_to(images / "nowhere.png")
    os.mkfifo(images / "00b.png")
    camera = drivers.open(source(images), clock, clock.sleep)
    camera.open()
    (images / "01.PNG").unlink()
    shots = [camera.read(1.0) for _ in range(8)]
    faults = [shot.fault for shot in shots if shot]
    assert [fault is None for fault in faults] == [True, False, False, False, True, True, True, True]
    assert [str(fault).partition(" ")[0] for fault in faults[1:4]] == ["00a.png", "00b.png", "01.PNG"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("00a.png", "symbolic links"),  # it leads to itself
        ("00.png/x", "Not a directory"),
        ("x" * 400 + ".png", "too long"),
        ("nowhere/x.png", "No such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_one_shot_without_pixels(
    images: Path, clock: Clock, target: str, why: str
) -> None:
    """Listing asks each link for its kind, and some links can't be asked."""
    (images / "00a.png").symlink_to(target)
    camera = drivers.open(source(images), clock, clock.sleep)
    camera.open()
    shots = [camera.read(1.0) for _ in range(7)]
    assert [shot is not None and shot.pixels is None for shot in shots] == [k == 1 for k in range(7)]
    assert shots[1] is not None
    assert why in str(shots[1].fault)
    assert [file.name for file in find(images)] == sorted(file.name for file in images.glob("0*.*"))


def told(progress: Progress, camera: drivers.Camera) -> int | None:
    """The level of the next image, which gets its frame as in the capture worker."""
    shot = camera.read(1.0)
    assert shot is not None
    progress.tell(shot.device_frame)
    return None if shot.pixels is None else round(int(shot.pixels[5, 5, 0]) / 20)


def test_who_opens_the_folder_again_repeats_no_part(images: Path, clock: Clock) -> None:
    progress = Progress()
    levels = list[int | None]()
    for _ in range(3):
        camera = drivers.open(source(images), clock, clock.sleep, progress)
        camera.open()
        levels += [told(progress, camera) for _ in range(2)]
    assert levels == [0, 1, 2, 3, 4, 5]
    camera = drivers.open(source(images), clock, clock.sleep, progress)
    camera.open()
    with pytest.raises(drivers.SourceEnded):
        camera.read(1.0)


def test_an_image_that_was_read_and_got_no_frame_comes_again(images: Path, clock: Clock) -> None:
    progress = Progress()
    camera = drivers.open(source(images), clock, clock.sleep, progress)
    camera.open()
    told(progress, camera)
    assert camera.read(1.0) is not None
    camera = drivers.open(source(images), clock, clock.sleep, progress)
    camera.open()
    shot = camera.read(1.0)
    assert shot is not None
    assert shot.device_frame == 1


def test_files_that_come_and_go_shift_no_part(images: Path, clock: Clock) -> None:
    progress = Progress()
    camera = drivers.open(source(images), clock, clock.sleep, progress)
    camera.open()
    assert [told(progress, camera) for _ in range(3)] == [0, 1, 2]
    (images / "00.png").unlink()
    (images / "02.bmp").unlink()
    for name in ("01b.png", "01c.png"):
        cv2.imwrite(str(images / name), np.full((32, 48, 3), 220, np.uint8))
    camera = drivers.open(source(images), clock, clock.sleep, progress)
    camera.open()
    assert [told(progress, camera) for _ in range(3)] == [3, 4, 5]


@pytest.mark.parametrize("options", ["", "?loop=1"])
@pytest.mark.parametrize("is_mount_point", [False, True])
def test_a_folder_that_is_gone_is_a_lost_camera_and_goes_on_at_the_same_file(
    images: Path, clock: Clock, options: str, is_mount_point: bool
) -> None:
    progress = Progress()
    camera = drivers.open(source(images, options), clock, clock.sleep, progress)
    camera.open()
    assert [told(progress, camera) for _ in range(2)] == [0, 1]
    away = images.rename(images.with_name("away"))
    if is_mount_point:
        # What an unmounted share leaves.
        images.mkdir()
    with pytest.raises(drivers.CameraLost, match=f"{images}: (there is no such folder|it holds no images)"):
        camera.read(1.0)
    for _ in range(2):
        camera = drivers.open(source(images, options), clock, clock.sleep, progress)
        with pytest.raises(drivers.CameraError, match=str(images)):
            camera.open()
    if is_mount_point:
        images.rmdir()
    away.rename(images)
    camera = drivers.open(source(images, options), clock, clock.sleep, progress)
    camera.open()
    assert [told(progress, camera) for _ in range(4)] == [2, 3, 4, 5]
    assert progress.mark.index == 5


def test_a_folder_that_was_refilled_with_other_files_is_listed_anew(images: Path, clock: Clock) -> None:
    progress = Progress()
    camera = drivers.open(source(images, "?loop=1"), clock, clock.sleep, progress)
    camera.open()
    assert [told(progress, camera) for _ in range(2)] == [0, 1]
    (images / "05.Jpg").rename(images / "99.jpg")
    for file in images.glob("0*"):
        file.unlink()
    assert [told(progress, camera) for _ in range(9)] == [None] * 9
    with pytest.raises(drivers.CameraLost, match="its last 10 files are gone: it is listed anew"):
        camera.read(1.0)
    camera = drivers.open(source(images, "?loop=1"), clock, clock.sleep, progress)
    camera.open()
    assert [told(progress, camera) for _ in range(2)] == [5, 5]


def test_a_loop_goes_on_where_it_was(images: Path, clock: Clock) -> None:
    progress = Progress()
    levels = list[int | None]()
    for _ in range(5):
        camera = drivers.open(source(images, "?loop=1"), clock, clock.sleep, progress)
        camera.open()
        levels += [told(progress, camera) for _ in range(3)]
    assert levels == [0, 1, 2, 3, 4, 5] * 2 + [0, 1, 2]
    assert progress.mark.index == 14


def test_a_file_that_ended_the_program_is_not_read_again(images: Path, clock: Clock) -> None:
    progress = Progress()
    progress.begin(2, "02.bmp")
    camera = drivers.open(source(images), clock, clock.sleep, progress)
    camera.open()
    shot = camera.read(1.0)
    assert shot is not None
    assert (shot.device_frame, shot.pixels) == (2, None)
    assert "02.bmp is not a readable image: the previous capture worker ended" in str(shot.fault)
    progress.tell(shot.device_frame)
    assert told(progress, camera) == 3


def test_who_keeps_no_mark_begins_at_the_first_image(images: Path, clock: Clock) -> None:
    camera = drivers.open(source(images), clock, clock.sleep)
    for _ in range(2):
        camera.open()
        shot = camera.read(1.0)
        assert shot is not None
        assert shot.device_frame == 0


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
    with pytest.raises(drivers.CameraError, match="missing: there is no such folder: create or mount it"):
        drivers.open(f"folder://{tmp_path}/missing").open()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(drivers.CameraError, match="txt: it is not a folder"):
        drivers.open(f"folder://{tmp_path}/notes.txt").open()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of 12 images, 25 a second, each brighter than the previous one."""
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


@pytest.mark.parametrize("options", ["", "?loop=1"])
def test_who_opens_a_clip_again_repeats_no_part(clip: Path, clock: Clock, options: str) -> None:
    progress = Progress()
    levels = list[int | None]()
    for _ in range(4 if options else 2):
        camera = drivers.open(f"file://{clip}{options}", clock, clock.sleep, progress)
        camera.open()
        levels += [told(progress, camera) for _ in range(6)]
        camera.close()
    assert levels == list(range(12)) * (2 if options else 1)
    camera = drivers.open(f"file://{clip}{options}", clock, clock.sleep, progress)
    camera.open()
    if options:
        assert [told(progress, camera) for _ in range(14)] == [*range(12), 0, 1]
    else:
        with pytest.raises(drivers.SourceEnded):
            camera.read(1.0)


class Killed(BaseException):
    """The end of a capture worker inside the decoder."""


def kill_at(monkeypatch: pytest.MonkeyPatch, deadly: int, step: str, times: int) -> None:
    """Let the decoder end the program at the clip's image of that number, the first `times` times."""

    class Deadly:
        def __init__(self, capture: cv2.VideoCapture) -> None:
            self._capture, self._grabbed = capture, 0

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

        def grab(self) -> bool:
            self._grabbed += 1
            self._die("grab")
            return self._capture.grab()

        def retrieve(self) -> tuple[bool, object]:
            self._die("retrieve")
            return self._capture.retrieve()

        def _die(self, at: str) -> None:
            nonlocal times
            if at == step and self._grabbed - 1 == deadly and times:
                times -= 1
                raise Killed

    def open_deadly(url: str, options: dict[str, str]) -> Deadly | None:
        capture = open_capture(url, options)
        return None if capture is None else Deadly(capture)

    monkeypatch.setattr("drivers.file.open_capture", open_deadly)


def lives(clip: Path, clock: Clock, options: str = "", most: int = 40) -> tuple[list[int | None], str, int]:
    """What capture workers tell that follow each other, the last error, and how many were killed."""
    progress, levels, killed = Progress(), list[int | None](), 0
    while True:
        camera = drivers.open(f"file://{clip}{options}", clock, clock.sleep, progress)
        try:
            camera.open()
            while len(levels) < most:
                levels.append(told(progress, camera))
                assert progress.mark.index == len(levels) - 1, "each image has the index that follows"
            return levels, "", killed
        except Killed:
            killed += 1
        except (drivers.CameraError, drivers.SourceEnded) as error:
            return levels, str(error), killed


@pytest.mark.parametrize("step", ["grab", "retrieve"])
@pytest.mark.parametrize("deadly", [0, 1, 5, 11])
def test_an_image_of_a_clip_that_ends_one_worker_is_one_bad_frame(
    clip: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, deadly: int, step: str
) -> None:
    kill_at(monkeypatch, deadly, step, 1)
    levels, error, killed = lives(clip, clock)
    assert levels == [None if number == deadly else number for number in range(12)]
    assert "12 images" in error, "the end of the clip"
    assert killed == 1


@pytest.mark.parametrize("options", ["", "?loop=1"])
@pytest.mark.parametrize("deadly", [0, 1, 5])
def test_a_clip_that_ends_every_worker_is_refused_from_that_image_on(
    clip: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, deadly: int, options: str
) -> None:
    kill_at(monkeypatch, deadly, "grab", 1000)
    levels, error, killed = lives(clip, clock, options)
    assert levels == [*range(deadly), None]
    assert f"can't be decoded from image {deadly + 1} on" in error
    assert killed == 2


def test_what_only_conversion_can_not_pass_costs_one_part(
    clip: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor decodes the images before again, and does not convert them."""
    kill_at(monkeypatch, 5, "retrieve", 1000)
    levels, error, killed = lives(clip, clock, "?loop=1", most=30)
    assert levels == [None if number % 12 == 5 else number % 12 for number in range(30)]
    assert (error, killed) == ("", 3)


def test_a_clip_that_waits_or_has_ended_is_no_dead_decoder(clip: Path, clock: Clock) -> None:
    progress = Progress()
    camera = drivers.open(f"file://{clip}?fps=1", clock, clock.sleep, progress)
    camera.open()
    assert told(progress, camera) == 0
    assert camera.read(0.1) is None
    for _ in range(2):
        camera = drivers.open(f"file://{clip}?fps=1", clock, clock.sleep, progress)
        camera.open()
        assert camera.read(-1.0) is None, "images are passed over"
    assert [told(progress, camera) for _ in range(11)] == list(range(1, 12))
    for _ in range(2):
        with pytest.raises(drivers.SourceEnded):
            camera.read(1.0)
        camera = drivers.open(f"file://{clip}", clock, clock.sleep, progress)
        camera.open()


def test_what_is_not_a_clip_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(drivers.CameraError, match="can't be played"):
        drivers.open(f"file://{tmp_path}/x.mp4").open()
    with pytest.raises(drivers.CameraError, match="no such file"):
        drivers.open(f"file://{tmp_path}/y.mp4").open()


def test_ffmpeg_itself_says_nothing(tmp_path: Path) -> None:
    """FFmpeg's log holds URLs with passwords. The test starts a new process, because FFmpeg reads the log
    level only once."""
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
