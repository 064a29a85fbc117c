"""One way from an image to the network's input, and image files that are not what they seem."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from monitor import images
from monitor.images import ImageError

RED, BLUE = (0, 0, 255), (255, 0, 0)


def plain(colour: tuple[int, int, int], rows: int = 40, columns: int = 60) -> images.Image:
    return np.full((rows, columns, 3), colour, np.uint8)


def test_prepared_is_normalised_rgb() -> None:
    prepared = images.prepare(plain(RED), (32, 32))
    assert prepared.shape == (3, 32, 32)
    assert prepared.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert prepared[:, 5, 5] == pytest.approx(expected, rel=1e-5)


def test_mono_is_the_same_as_three_equal_channels() -> None:
    mono = np.random.default_rng(0).integers(0, 256, (300, 200), np.uint8)
    assert np.array_equal(
        images.prepare(mono, (64, 64)), images.prepare(np.stack([mono] * 3, axis=2), (64, 64))
    )


@pytest.mark.parametrize(
    "shape", [(1080, 1920), (64, 64), (20, 30), (500, 20), (20, 500), (1, 1), (777, 513)]
)
def test_every_shape_is_squashed_to_the_square(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    assert np.array_equal(images.squashed(image, (64, 64)), np.full((64, 64, 3), 77, np.uint8))


@pytest.mark.parametrize("shape", [(1080, 1920), (512, 512), (300, 400), (1024, 30)])
def test_shrinking_looks_at_every_pixel(shape: tuple[int, int]) -> None:
    """A defect of one pixel must not vanish between sampling points."""
    for place in [(100, 10), (101, 11), (102, 12), (103, 13)]:
        image = np.zeros(shape, np.uint8)
        image[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3] = 255
        assert images.squashed(image, (64, 64)).max() > 0


def test_shrinking_is_the_mean_of_what_falls_into_a_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    blocks = image.reshape(64, 8, 64, 8).mean(axis=(1, 3))
    assert np.abs(images.squashed(image, (64, 64)) - blocks).max() <= 2


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(image: images.Image) -> None:
    with pytest.raises(ValueError, match="an image is uint8"):
        images.prepare(image, (32, 32))


def test_a_link_that_leads_back_ends_the_walk(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "round").symlink_to(tmp_path)
    assert images.find(tmp_path) == [tmp_path / "a.png"]


def test_images_are_found_at_any_depth_by_any_spelling(tmp_path: Path) -> None:
    for name in ["b.PNG", "a/x.jpeg", "a/c/y.TIFF", "z.webp", "notes.txt", ".hidden.png", ".cache/k.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(file.relative_to(tmp_path)) for file in images.find(tmp_path)]
    assert found == ["a/c/y.TIFF", "a/x.jpeg", "b.PNG", "z.webp"]
    with pytest.raises(ImageError, match="No such file"):
        images.find(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jpg"])
def test_every_kind_of_file_is_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"part{suffix}"
    file.write_bytes(cv2.imencode(suffix, plain(BLUE))[1].tobytes())
    assert images.read(file)[20, 30] == pytest.approx(np.array(BLUE), abs=12)


def test_sixteen_bits_are_shifted_by_a_fixed_amount(tmp_path: Path) -> None:
    dark = np.full((8, 8), 0x1234, np.uint16)
    (tmp_path / "dark.png").write_bytes(cv2.imencode(".png", dark)[1].tobytes())
    read = images.read(tmp_path / "dark.png")
    assert read.dtype == np.uint8
    assert (read == 0x12).all()


def test_alpha_is_dropped(tmp_path: Path) -> None:
    seen_through = np.dstack([plain(RED), np.zeros((40, 60), np.uint8)])
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", seen_through)[1].tobytes())
    assert np.array_equal(images.read(tmp_path / "a.png"), plain(RED))


def test_cmyk_becomes_bgr(tmp_path: Path) -> None:
    """As printers' scanners write it."""
    PIL.Image.new("CMYK", (60, 40), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    read = images.read(tmp_path / "a.jpg")
    assert read.shape == (40, 60, 3)
    assert read[20, 30] == pytest.approx(np.array(RED), abs=12)


def test_an_image_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera lay on its side."""
    jpeg = cv2.imencode(".jpg", plain(RED, rows=40, columns=60))[1].tobytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    (tmp_path / "turned.jpg").write_bytes(turned)
    assert images.read(tmp_path / "turned.jpg").shape == (60, 40, 3)


def test_a_preview_does_not_hide_that_a_file_is_cut_short() -> None:
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    preview = cv2.imencode(".jpg", plain(RED, 8, 8))[1].tobytes()
    whole = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview + jpeg[2:]
    assert images.decode(whole + b"what a phone appends" * 1000).shape == (64, 64, 3)
    with pytest.raises(ImageError, match="cut short"):
        images.decode(whole[:-300])


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
    files = [*images.find(tmp_path), tmp_path / "folder.png"]
    usable = [file.name for file, _, _ in images.readable(files, heard.append)]
    assert usable == ["good.png"]
    assert len(heard) == len(wrong) + 1
    assert all(line.startswith("skipped: ") and "\n" not in line for line in heard)
