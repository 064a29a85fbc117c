"""Training uses the readable images of a folder, and names each of the others in one line."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers import image_file
from drivers.image_file import ImageError
from monitor.training import readable_images
from tests.real.image_bytes import encoded, flipped, png_chunk, scan, zeroed


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
    lines: list[str] = []
    files = [*image_file.find(tmp_path), tmp_path / "folder.png"]
    usable = [file.name for file, _, _ in readable_images.read_images(files, lines.append)]
    assert usable == ["good.png"]
    assert len(lines) == len(wrong) + 1
    assert all(line.startswith("skipped: ") and "\n" not in line for line in lines)


def test_a_pipe_or_device_is_named_and_not_waited_for(tmp_path: Path) -> None:
    """Reading a pipe that has no writer would never end."""
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").write_bytes(encoded("PNG"))
    (tmp_path / "d.png").symlink_to(tmp_path / "c.png")
    lines: list[str] = []
    usable = [
        file.name for file, _, _ in readable_images.read_images(image_file.find(tmp_path), lines.append)
    ]
    assert usable == ["c.png", "d.png"]
    assert lines == [
        f"skipped: {tmp_path / n}: a pipe, socket or device, not a file" for n in ("a.png", "b.png")
    ]
    with pytest.raises(ImageError, match="a pipe, socket or device"):
        image_file.read(tmp_path / "a.png")


def test_files_that_only_seem_whole_are_named(tmp_path: Path) -> None:
    jpeg, tiff = encoded("JPEG"), encoded("TIFF", compression="tiff_lzw")
    (tmp_path / "a.jpg").write_bytes(zeroed(jpeg, scan(jpeg) + 500))
    (tmp_path / "b.tif").write_bytes(zeroed(tiff, len(tiff) // 2))
    (tmp_path / "c.jpg").write_bytes(jpeg)
    lines: list[str] = []
    assert [
        file.name for file, _, _ in readable_images.read_images(image_file.find(tmp_path), lines.append)
    ] == ["c.jpg"]
    assert [line.partition(": the file is damaged (")[0] for line in lines] == [
        f"skipped: {tmp_path / 'a.jpg'}",
        f"skipped: {tmp_path / 'b.tif'}",
    ]


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
    # libpng warns of an invalid colour profile, as Photoshop writes it; the image itself is whole.
    profile = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"no profile"))
    (tmp_path / "e.png").write_bytes(png[:33] + profile + png[33:])
    lines: list[str] = []
    usable = [
        file.name for file, _, _ in readable_images.read_images(image_file.find(tmp_path), lines.append)
    ]
    assert usable == ["e.png"]
    assert lines[0].endswith("a.png: the file is damaged (its header can't be read)")
    assert len(lines) == 4
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
    lines: list[str] = []
    assert not list(readable_images.read_images(image_file.find(tmp_path), lines.append))
    (line,) = lines
    assert line.startswith(f"skipped: {tmp_path}/{shown}: not a readable image: only PNG")


def test_a_snapshot_of_a_challenge_part_is_named_and_not_used(tmp_path: Path) -> None:
    for name, beside in (("a", '{"challenge": "scratch-1"}'), ("b", '{"challenge": null}'), ("c", "[")):
        (tmp_path / f"{name}.png").write_bytes(encoded("PNG"))
        (tmp_path / f"{name}.json").write_text(beside)
    (tmp_path / "d.png").write_bytes(encoded("PNG"))
    lines: list[str] = []
    found = readable_images.read_images(image_file.find(tmp_path), lines.append)
    assert [file.name for file, _, _ in found] == ["b.png", "c.png", "d.png"]
    assert lines == [f"skipped: {tmp_path / 'a.png'}: it shows challenge part scratch-1"]
