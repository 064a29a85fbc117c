"""One way from an image to the network's input, and image files that are not what they seem."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from drivers import image_file
from drivers.image_file import ImageError
from monitor.images import preprocessing
from monitor.training import readable_images

RED, BLUE = (0, 0, 255), (255, 0, 0)


def plain(colour: tuple[int, int, int], rows: int = 40, columns: int = 60) -> image_file.Image:
    return np.full((rows, columns, 3), colour, np.uint8)


def test_prepared_is_normalised_rgb() -> None:
    prepared = preprocessing.prepare(plain(RED), (32, 32))
    assert prepared.shape == (3, 32, 32)
    assert prepared.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert prepared[:, 5, 5] == pytest.approx(expected, rel=1e-5)


def test_mono_is_the_same_as_three_equal_channels() -> None:
    mono = np.random.default_rng(0).integers(0, 256, (300, 200), np.uint8)
    assert np.array_equal(
        preprocessing.prepare(mono, (64, 64)), preprocessing.prepare(np.stack([mono] * 3, axis=2), (64, 64))
    )


@pytest.mark.parametrize(
    "shape", [(1080, 1920), (64, 64), (20, 30), (500, 20), (20, 500), (1, 1), (777, 513)]
)
def test_every_shape_is_squashed_to_the_square(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    assert np.array_equal(preprocessing.squashed(image, (64, 64)), np.full((64, 64, 3), 77, np.uint8))


@pytest.mark.parametrize("shape", [(1080, 1920), (512, 512), (300, 400), (1024, 30)])
def test_shrinking_looks_at_every_pixel(shape: tuple[int, int]) -> None:
    """A defect of one pixel must not vanish between sampling points."""
    for place in [(100, 10), (101, 11), (102, 12), (103, 13)]:
        image = np.zeros(shape, np.uint8)
        image[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3] = 255
        assert preprocessing.squashed(image, (64, 64)).max() > 0


def test_shrinking_is_the_mean_of_what_falls_into_a_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    blocks = image.reshape(64, 8, 64, 8).mean(axis=(1, 3))
    assert np.abs(preprocessing.squashed(image, (64, 64)) - blocks).max() <= 2


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(image: image_file.Image) -> None:
    with pytest.raises(ValueError, match="an image is uint8"):
        preprocessing.prepare(image, (32, 32))


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
    """As printers' scanners write it."""
    PIL.Image.new("CMYK", (60, 40), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    read = image_file.read(tmp_path / "a.jpg")
    assert read.shape == (40, 60, 3)
    assert read[20, 30] == pytest.approx(np.array(RED), abs=12)


def test_an_image_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera lay on its side."""
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


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    png = cv2.imencode(".png", noise)[1].tobytes()
    wrong = {"empty.png": b"", "text.png": b"hello", "cut.jpg": jpeg[:-900], "cut.png": png[:-5000]}
    wrong["float.tiff"] = cv2.imencode(".tiff", np.zeros((4, 4), np.float32))[1].tobytes()
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.png").write_bytes(png)
    (tmp_path / "folder.png").mkdir()
    heard: list[str] = []
    files = [*image_file.find(tmp_path), tmp_path / "folder.png"]
    usable = [file.name for file, _, _ in readable_images.readable(files, heard.append)]
    assert usable == ["good.png"]
    assert len(heard) == len(wrong) + 1
    assert all(line.startswith("skipped: ") and "\n" not in line for line in heard)


def test_a_pipe_or_device_is_named_and_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into the pipe: reading it would never end."""
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").write_bytes(encoded("PNG"))
    (tmp_path / "d.png").symlink_to(tmp_path / "c.png")
    heard: list[str] = []
    usable = [file.name for file, _, _ in readable_images.readable(image_file.find(tmp_path), heard.append)]
    assert usable == ["c.png", "d.png"]
    assert heard == [
        f"skipped: {tmp_path / n}: a pipe, socket or device, not a file" for n in ("a.png", "b.png")
    ]
    with pytest.raises(ImageError, match="a pipe, socket or device"):
        image_file.read(tmp_path / "a.png")


def textured(rows: int = 128, columns: int = 128) -> image_file.Image:
    noise = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def encoded(kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(textured()).save(file, kind, **settings)
    return file.getvalue()


def zeroed(content: bytes, at: int, count: int = 400) -> bytes:
    return content[:at] + bytes(count) + content[at + count :]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def scan(jpeg: bytes) -> int:
    return jpeg.index(b"\xff\xda") + 14


@pytest.mark.parametrize(
    "settings", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 8}]
)
@pytest.mark.parametrize("place", [0.05, 0.3, 0.6, 0.9])
def test_a_jpeg_with_zeros_in_its_scan_is_damaged(place: float, settings: dict[str, object]) -> None:
    """As a disk leaves what it lost. Whether libjpeg notices is chance: the stream may come out even."""
    jpeg = encoded("JPEG", **settings)
    at = scan(jpeg) + int(place * (len(jpeg) - scan(jpeg) - 402))
    with pytest.raises(ImageError, match="the file is damaged"):
        image_file.decode(zeroed(jpeg, at))


def test_a_jpeg_that_its_decoder_complains_of_is_damaged(capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = encoded("JPEG")
    told = 0
    for at in range(scan(jpeg), len(jpeg) - 2, 40):
        broken = flipped(jpeg, at)
        cv2.imdecode(np.frombuffer(broken, np.uint8), cv2.IMREAD_ANYCOLOR)
        if "Corrupt JPEG data" in capfd.readouterr().err:
            told += 1
            with pytest.raises(ImageError, match=r"the file is damaged .*Corrupt JPEG data"):
                image_file.decode(broken)
    assert told > 3
    assert capfd.readouterr().err == "", "what the decoder says is in the error"


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
    with pytest.raises(ImageError, match="incorrect data check"):
        image_file.decode(flipped(tiff, len(tiff) // 3))
    tiff = encoded("TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError, match="Using code not yet in table"):
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


def test_files_that_only_seem_whole_are_named(tmp_path: Path) -> None:
    jpeg, tiff = encoded("JPEG"), encoded("TIFF", compression="tiff_lzw")
    (tmp_path / "a.jpg").write_bytes(zeroed(jpeg, scan(jpeg) + 500))
    (tmp_path / "b.tif").write_bytes(zeroed(tiff, len(tiff) // 2))
    (tmp_path / "c.jpg").write_bytes(jpeg)
    heard: list[str] = []
    assert [
        file.name for file, _, _ in readable_images.readable(image_file.find(tmp_path), heard.append)
    ] == ["c.jpg"]
    assert [line.partition(": the file is damaged (")[0] for line in heard] == [
        f"skipped: {tmp_path / 'a.jpg'}",
        f"skipped: {tmp_path / 'b.tif'}",
    ]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def test_decoders_write_nothing_between_the_lines_of_whoever_reads_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    png, bmp = encoded("PNG"), encoded("BMP")
    no_width = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    header = png[:8] + png_chunk(b"IHDR", no_width)
    (tmp_path / "a.png").write_bytes(header + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))
    (tmp_path / "b.png").write_bytes(flipped(png, len(png) // 2))
    (tmp_path / "c.bmp").write_bytes(bmp[:3000])
    (tmp_path / "d.png").write_bytes(b"hello")
    # Photoshop's colour profile, which libpng warns of, is no reason to refuse a picture.
    profile = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"no profile"))
    (tmp_path / "e.png").write_bytes(png[:33] + profile + png[33:])
    heard: list[str] = []
    usable = [file.name for file, _, _ in readable_images.readable(image_file.find(tmp_path), heard.append)]
    assert usable == ["e.png"]
    assert heard[0].endswith("a.png: not a readable image (libpng error: Invalid IHDR data)")
    assert len(heard) == 4
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"new\nline.png", "new\\nline.png"),
        (b"\x1b[2Jclears.png", "\\x1b[2Jclears.png"),
        ("of two lines\u2028.png".encode(), "of two lines\\u2028.png"),
        (b"\xff.png", "\ufffd.png"),
        ("Gehäuse 3 – 良.png".encode(), "Gehäuse 3 – 良.png"),
    ],
)
def test_a_skipped_file_is_one_line_whatever_its_name(tmp_path: Path, name: bytes, shown: str) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"hello")
    heard: list[str] = []
    assert not list(readable_images.readable(image_file.find(tmp_path), heard.append))
    assert heard == [f"skipped: {tmp_path}/{shown}: not a readable image"]
