"""Every labelled image and mask is found in a folder or an archive, and no other file is read."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from drivers.image_file import ImageError
from monitor.evaluation.dataset import DatasetError, FileKind, list_entries, parse_path

FILES = {
    "bottle/ground_truth/crack/000_mask.png": b"mask",
    "bottle/test/good/000.png": b"good" * 5000,
    "bottle/test/crack/000.png": b"crack",
    "bottle/train/good/000.png": b"train",
    "bottle/readme.txt": b"text",
    "metal_nut/test/bent/deep/001.jpg": b"bent",
    "metal_nut/test/bent/._001.jpg": b"a Mac's",
}
FOUND = {
    ("bottle", FileKind.MASK, "crack/000_mask.png", b"mask"),
    ("bottle", FileKind.IMAGE, "good/000.png", b"good" * 5000),
    ("bottle", FileKind.IMAGE, "crack/000.png", b"crack"),
    ("metal_nut", FileKind.IMAGE, "bent/deep/001.jpg", b"bent"),
}


PLAIN = {
    "good/000.png": b"good" * 5000,
    "good/lot 2/001.png": b"more",
    "crack/000.png": b"crack",
    "train/good/000.png": b"train",
    "ground_truth/crack/000_mask.png": b"mask",
    "readme.png": b"beside the folders",
    ".hidden/000.png": b"hidden",
    "notes/readme.txt": b"text",
}
FOUND_PLAIN = {
    (FileKind.IMAGE, "good/000.png", b"good" * 5000),
    (FileKind.IMAGE, "good/lot 2/001.png", b"more"),
    (FileKind.IMAGE, "crack/000.png", b"crack"),
    (FileKind.MASK, "crack/000_mask.png", b"mask"),
}


def folder(at: Path, top: str = "", files: Mapping[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        file = at / "set" / top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return at / "set"


def tar(at: Path, mode: str, top: str = "", files: Mapping[str, bytes] = FILES) -> Path:
    file = at / "set.archive"
    with tarfile.open(file, mode) as archive:
        for name, content in files.items():
            add(archive, top + name, content)
    return file


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def zipped(at: Path, top: str = "", files: Mapping[str, bytes] = FILES) -> Path:
    file = at / "set.archive"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return file


def found(dataset: Path) -> set[tuple[str, FileKind, str, bytes]]:
    return {(e.path.category[-1], e.path.kind, str(e.path.name), e.content()) for e in list_entries(dataset)}


@pytest.mark.parametrize("top", ["", "mvtec/"])
@pytest.mark.parametrize(
    "make",
    [
        folder,
        lambda at, top: tar(at, "w", top),
        lambda at, top: tar(at, "w:gz", top),
        lambda at, top: tar(at, "w:xz", top),
        lambda at, top: tar(at, "w:bz2", "./" + top),
        zipped,
    ],
    ids=["folder", "tar", "tar.gz", "tar.xz", "tar.bz2", "zip"],
)
def test_folder_and_archives_hold_the_same(tmp_path: Path, make: Callable[..., Path], top: str) -> None:
    assert found(make(tmp_path, top)) == FOUND


@pytest.mark.parametrize(
    "make",
    [
        lambda at: folder(at, files=PLAIN),
        lambda at: tar(at, "w", files=PLAIN),
        lambda at: tar(at, "w:gz", "parts/disc/", files=PLAIN),
        lambda at: zipped(at, files=PLAIN),
        lambda at: zipped(at, "parts/", files=PLAIN),
    ],
    ids=["folder", "tar", "tar.gz", "zip", "zip of a folder"],
)
def test_good_and_the_folders_beside_it_are_a_data_set(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    entries = list_entries(make(tmp_path))
    found = [(entry.path.kind, str(entry.path.name), entry.content()) for entry in entries]
    assert set(found) == FOUND_PLAIN
    assert len(found) == len(FOUND_PLAIN)


def test_hard_links_in_a_plain_archive_are_found(tmp_path: Path) -> None:
    file = tmp_path / "set.tar"
    with tarfile.open(file, "w") as archive:
        add(archive, "train/0.png", b"one")
        link = tarfile.TarInfo("good/1.png")
        link.type, link.linkname = tarfile.LNKTYPE, "train/0.png"
        archive.addfile(link)
    assert [(str(entry.path.name), entry.content()) for entry in list_entries(file)] == [
        ("good/1.png", b"one")
    ]


def test_a_test_folder_beside_good_is_the_data_set(tmp_path: Path) -> None:
    both = folder(tmp_path, files=PLAIN | {"test/good/9.png": b"test"})
    assert [str(entry.path.name) for entry in list_entries(both) if entry.path.kind is FileKind.IMAGE] == [
        "good/9.png"
    ]


def test_an_archive_of_training_images_is_no_data_set(tmp_path: Path) -> None:
    for make in (tar, zipped):
        options = {"mode": "w"} if make is tar else {}
        archive = make(tmp_path, files={"disc/train/good/0.png": b"0"}, **options)
        assert list(list_entries(archive)) == []


def test_one_category_needs_no_folder_of_its_own(tmp_path: Path) -> None:
    dataset = folder(tmp_path) / "bottle"
    assert {entry.path.category for entry in list_entries(dataset)} == {()}
    assert {entry.path.defect_type for entry in list_entries(dataset)} == {"good", "crack"}


@pytest.mark.parametrize(
    "name",
    [
        "/bottle/test/good/1.png",
        "../bottle/test/good/1.png",
        "bottle/test/good/../../../1.png",
        "bottle/test/1.png",
        "bottle/train/good/test/x/1.png",
        "bottle/test/good/.1.png",
        "bottle/test/good/1.txt",
        "__MACOSX/bottle/test/good/._1.png",
        "test",
        "",
    ],
)
def test_what_is_no_labelled_image_has_no_place(name: str) -> None:
    assert parse_path(name) is None


def test_links_in_an_archive_lead_nowhere_outside(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    file = tmp_path / "set.tar"
    with tarfile.open(file, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("bottle/test/good/link.png")
            member.type, member.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(member)
        add(archive, "bottle/test/good/1.png", b"one")
    found_entries = list_entries(file)
    assert next(found_entries).content() == b"one"
    (link,) = found_entries
    assert link.shown_name.endswith("bottle/test/good/link.png")
    with pytest.raises(ImageError, match=r"a link to .*secret.png, which is not in the archive"):
        link.content()


@pytest.mark.parametrize("mode", ["w", "w:xz"])
def test_a_file_with_several_names_is_found_under_each(tmp_path: Path, mode: str) -> None:
    """tar stores the bytes under the first name, and hard links under the other names."""
    good = tmp_path / "bottle/train/good/0.png"
    good.parent.mkdir(parents=True)
    good.write_bytes(b"good")
    for name in ("good/0.png", "good/1.png", "crack/2.png"):
        (tmp_path / "bottle/test" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bottle/test" / name).hardlink_to(good)
    (tmp_path / "bottle/test/crack/3.png").write_bytes(b"crack")
    file = tmp_path / "set.archive"
    with tarfile.open(file, mode) as archive:
        for name in ("train/good/0.png", "test/good/0.png", "test/good/1.png", "test/crack"):
            archive.add(tmp_path / "bottle" / name, f"./bottle/{name}")
    assert found(file) == {
        ("bottle", FileKind.IMAGE, "good/0.png", b"good"),
        ("bottle", FileKind.IMAGE, "good/1.png", b"good"),
        ("bottle", FileKind.IMAGE, "crack/2.png", b"good"),
        ("bottle", FileKind.IMAGE, "crack/3.png", b"crack"),
    }


def test_zip_links_and_windows_separators(tmp_path: Path) -> None:
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("bottle/test/good/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bottle\\test\\good\\1.png", b"one")
    assert [entry.content() for entry in list_entries(file)] == [b"one"]


def everything(dataset: Path) -> None:
    for entry in list_entries(dataset):
        entry.content()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_an_archive_that_is_cut_short_is_damaged_and_not_just_smaller(
    tmp_path: Path, mode: str, kept: float
) -> None:
    file = tar(tmp_path, mode)
    # A tar ends with up to 10 KiB of zeros; without them it is still whole, so they are cut off first.
    whole = file.read_bytes() if mode != "w" else file.read_bytes().rstrip(b"\0")
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(
        DatasetError, match=r"set.archive: the archive is damaged .*: copy or download it again"
    ):
        everything(file)


@pytest.mark.parametrize("make", [lambda at: tar(at, "w:xz"), lambda at: tar(at, "w:gz"), zipped])
def test_a_flipped_byte_is_found(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    file = make(tmp_path)
    content = bytearray(file.read_bytes())
    image = b"bottle/test/good/000.png"
    # In a zip the names are readable: there a byte of the image itself is flipped, since only those are read.
    content[content.index(image) + len(image) + 4 if image in content else len(content) // 3] ^= 0x55
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        everything(file)


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    file = tar(tmp_path, "w")
    content = bytearray(file.read_bytes())
    content[content.index(b"metal_nut/test/bent/deep") + 3] ^= 0x55
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        everything(file)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"no archive at all" * 100, b"\xfd7zXZ\x00", b"\x1f\x8b\x08"]
)
def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "set.tar.xz"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"set\.tar\.xz: (neither|the archive is damaged)") as refused:
        everything(file)
    assert "\n" not in str(refused.value)


def test_an_encrypted_archive_says_what_to_do(tmp_path: Path) -> None:
    file = zipped(tmp_path)
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02")
    while at >= 0:
        content[at + 8] |= 1
        at = content.find(b"PK\x01\x02", at + 4)
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="encrypted: unpack it"):
        everything(file)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    bomb = tmp_path / "bottle/test/good/0.png"
    bomb.parent.mkdir(parents=True)
    with bomb.open("wb") as file:
        file.truncate(600 * 2**20)
    (entry,) = list_entries(tmp_path)
    with pytest.raises(ImageError, match="larger than"):
        entry.content()


def test_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "bottle/test/good").mkdir(parents=True)
    os.mkfifo(tmp_path / "bottle/test/good/0.png")
    (entry,) = list_entries(tmp_path)
    with pytest.raises(ImageError, match="a pipe, socket or device"):
        entry.content()


def test_where_nothing_is_the_layout_is_told(tmp_path: Path) -> None:
    for nowhere in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DatasetError, match=r"test/good, test/<type>.* or it has good and a folder"):
            everything(nowhere)
