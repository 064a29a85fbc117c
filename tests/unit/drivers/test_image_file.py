"""All kinds of image files are found and read. A damaged file is refused, not filled with invented pixels."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from drivers import image_file
from drivers.image_file import ImageError
from tests.real.image_bytes import BLUE, RED, encoded, flipped, plain, scan, zeroed


def test_a_link_that_leads_back_ends_the_walk(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "round").symlink_to(tmp_path)
    assert image_file.find(tmp_path) == [tmp_path / "a.png"]


def test_images_are_found_at_any_depth_by_any_spelling(tmp_path: Path) -> None:
    for name in ["b.PNG", "a/x.jpeg", "a/c/y.TIFF", "z.webp", "notes.txt", ".hidden.png", ".cache/k.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(file.relative_to(tmp_path)) for file in image_file.find(tmp_path)]
    assert found == ["a/c/y.TIFF", "a/x.jpeg", "b.PNG", "z.webp"]
    with pytest.raises(ImageError, match="No such file"):
        image_file.find(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jpg"])
def test_every_kind_of_file_is_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"part{suffix}"
    file.write_bytes(cv2.imencode(suffix, plain(BLUE))[1].tobytes())
    assert image_file.read(file)[20, 30] == pytest.approx(np.array(BLUE), abs=12)


def test_sixteen_bits_are_shifted_by_a_fixed_amount(tmp_path: Path) -> None:
    dark = np.full((8, 8), 0x1234, np.uint16)
    (tmp_path / "dark.png").write_bytes(cv2.imencode(".png", dark)[1].tobytes())
    read = image_file.read(tmp_path / "dark.png")
    assert read.dtype == np.uint8
    assert (read == 0x12).all()


def test_alpha_is_dropped(tmp_path: Path) -> None:
    seen_through = np.dstack([plain(RED), np.zeros((40, 60), np.uint8)])
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", seen_through)[1].tobytes())
    assert np.array_equal(image_file.read(tmp_path / "a.png"), plain(RED))


def test_cmyk_becomes_bgr(tmp_path: Path) -> None:
    """Print scanners write CMYK files."""
    PIL.Image.new("CMYK", (60, 40), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    read = image_file.read(tmp_path / "a.jpg")
    assert read.shape == (40, 60, 3)
    assert read[20, 30] == pytest.approx(np.array(RED), abs=12)


def test_an_image_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    """EXIF orientation 6 means that the camera was turned by 90 degrees."""
    jpeg = cv2.imencode(".jpg", plain(RED, rows=40, columns=60))[1].tobytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    (tmp_path / "turned.jpg").write_bytes(turned)
    assert image_file.read(tmp_path / "turned.jpg").shape == (60, 40, 3)


def test_a_preview_does_not_hide_that_a_file_is_cut_short() -> None:
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    preview = cv2.imencode(".jpg", plain(RED, 8, 8))[1].tobytes()
    whole = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview + jpeg[2:]
    assert image_file.decode(whole + b"what a phone appends" * 1000).shape == (64, 64, 3)
    with pytest.raises(ImageError, match="cut short"):
        image_file.decode(whole[:-300])


@pytest.mark.parametrize(
    "settings", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 8}]
)
@pytest.mark.parametrize("place", [0.05, 0.3, 0.6, 0.9])
def test_a_jpeg_with_zeros_in_its_scan_is_damaged(place: float, settings: dict[str, object]) -> None:
    """A disk returns zeros for lost sectors. libjpeg reports them only sometimes."""
    jpeg = encoded("JPEG", **settings)
    at = scan(jpeg) + int(place * (len(jpeg) - scan(jpeg) - 402))
    with pytest.raises(ImageError, match="the file is damaged"):
        image_file.decode(zeroed(jpeg, at))


def test_a_jpeg_that_its_decoder_complains_of_is_damaged(capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = encoded("JPEG")
    complaints = 0
    for at in range(scan(jpeg), len(jpeg) - 2, 40):
        broken = flipped(jpeg, at)
        cv2.imdecode(np.frombuffer(broken, np.uint8), cv2.IMREAD_ANYCOLOR)
        if "Corrupt JPEG data" in capfd.readouterr().err:
            complaints += 1
            with pytest.raises(ImageError, match="the file is damaged"):
                image_file.decode(broken)
    assert complaints > 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("compression", "spoil"),
    [
        ("tiff_lzw", lambda content: zeroed(content, len(content) // 2)),
        ("tiff_adobe_deflate", lambda content: flipped(content, len(content) // 3)),
        ("packbits", lambda content: zeroed(content, len(content) // 2)),
        ("jpeg", lambda content: zeroed(content, len(content) // 2)),
    ],
)
@pytest.mark.parametrize("log_level", ["LOG_LEVEL_SILENT", "LOG_LEVEL_WARNING"])
def test_a_tiff_that_its_decoder_complains_of_is_damaged(
    compression: str, spoil: Callable[[bytes], bytes], log_level: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = cv2.utils.logging
    before = log.setLogLevel(getattr(log, log_level))
    try:
        tiff = encoded("TIFF", compression=compression)
        assert image_file.decode(tiff).shape == (128, 128, 3)
        with pytest.raises(ImageError, match="the file is damaged") as refused:
            image_file.decode(spoil(tiff))
        assert log.getLogLevel() == getattr(log, log_level)
    finally:
        log.setLogLevel(before)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


def test_one_flipped_byte_of_a_compressed_tiff_is_damage() -> None:
    tiff = encoded("TIFF", compression="tiff_adobe_deflate")
    with pytest.raises(ImageError, match="BAD_DATA"):
        image_file.decode(flipped(tiff, len(tiff) // 3))
    tiff = encoded("TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError, match="the file is damaged"):
        image_file.decode(flipped(tiff, 337))


@pytest.mark.parametrize(
    ("kind", "settings", "appended"),
    [
        ("JPEG", {}, b""),
        ("JPEG", {"progressive": True}, b""),
        ("JPEG", {"optimize": True, "restart_marker_blocks": 3}, b""),
        ("JPEG", {}, b"what a phone appends" * 100),
        ("JPEG", {}, bytes(1000)),
        ("JPEG", {"comment": bytes(1000)}, b""),
        ("TIFF", {}, b""),
        ("TIFF", {"compression": "tiff_lzw"}, b""),
        ("TIFF", {"compression": "jpeg"}, b""),
        ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {60000: "a camera's own tag"}}, b""),
        ("PNG", {}, b""),
        ("BMP", {}, b""),
        ("WEBP", {}, b""),
    ],
)
def test_what_is_whole_is_no_damage(
    kind: str, settings: dict[str, object], appended: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert image_file.decode(encoded(kind, **settings) + appended).shape == (128, 128, 3)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("optimised", [0, 1])
def test_an_even_image_may_be_all_zeros_in_its_file(level: int, optimised: int) -> None:
    even = np.full((600, 800, 3), level, np.uint8)
    jpeg = cv2.imencode(".jpg", even, [cv2.IMWRITE_JPEG_OPTIMIZE, optimised])[1].tobytes()
    assert (bytes(64) in jpeg) == bool(optimised)
    assert (image_file.decode(jpeg) == level).all()


@pytest.fixture
def odd_files(tmp_path: Path) -> Path:
    """What may lie in a folder under an image's name without being one."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "text.png").write_text("no image")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.png"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("empty.png", "the file is empty"),
        ("folder.png", "a folder, not a file"),
        ("pipe.png", "a pipe, socket or device"),
        ("gone.png", "No such file"),
        ("round.png", "Too many levels of symbolic links"),
        ("device.png", "a pipe, socket or device"),
        ("socket.png", "No such device"),
        ("text.png", "not a readable image"),
        ("sparse.png", "larger than 2 GiB"),
        ("a\0b.png", "null byte"),
        ("x" * 300 + ".png", "File name too long"),
    ],
)
def test_a_file_that_is_no_image_is_refused_at_once_with_the_reason(
    odd_files: Path, name: str, why: str
) -> None:
    with pytest.raises(ImageError, match=why) as refused:
        image_file.read(odd_files / name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_whatever_a_file_holds_it_is_an_image_or_an_image_error(kind: str) -> None:
    """A traceback here would end a capture worker, and the line would see no parts."""
    random = np.random.default_rng(1)
    whole = encoded(kind)
    messages = list[str]()
    for turn in range(300):
        try:
            read = image_file.decode_any_depth(spoilt(whole, turn, random))
        except ImageError as error:
            messages.append(str(error))
        else:
            assert read.ndim in (2, 3)
            assert read.dtype in (np.uint8, np.uint16)
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)


def spoilt(whole: bytes, turn: int, random: np.random.Generator) -> bytes:
    """Up to five bytes changed; in half of the turns in the header or in the end, where most is decided."""
    content = bytearray(whole)
    ranges = ((0, 200), (0, len(content)), (len(content) - 400, len(content)), (0, len(content)))
    for _ in range(random.integers(1, 6)):
        content[int(random.integers(*ranges[turn % 4]))] = int(random.integers(256))
    if turn % 5 == 0:
        del content[int(random.integers(len(content))) :]
    return bytes(content)


def test_memory_that_does_not_suffice_is_the_files_fault_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(content: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr("drivers.pillow_file.decode", exhausted)
    with pytest.raises(ImageError, match="memory"):
        image_file.decode(encoded("PNG"))
