"""What counts as an image of an archive, and what its path says."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.fleet.archive_listing import ArchiveImage, describe_image, list_archive
from monitor.fleet.fleet_error import FleetError

SNAPSHOT = "2026-11-29/top/093015123_top_42_1.31"


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_snapshots_frame_is_listed_with_time_and_camera_and_its_picture_is_not() -> None:
    assert describe_image(f"/a/{SNAPSHOT}.png") == ArchiveImage(
        f"/a/{SNAPSHOT}.png", "2026-11-29T09:30:15.123Z", "top"
    )
    assert describe_image(f"s3://b/{SNAPSHOT}.png") == ArchiveImage(
        f"s3://b/{SNAPSHOT}.png", "2026-11-29T09:30:15.123Z", "top"
    )
    assert describe_image(f"/a/{SNAPSHOT}.jpg") is None
    assert describe_image("/a/part.jpg") == ArchiveImage("/a/part.jpg")


def test_folders_patterns_and_lists_are_read(tmp_path: Path) -> None:
    fill(tmp_path, f"{SNAPSHOT}.png", f"{SNAPSHOT}.jpg", f"{SNAPSHOT}.json", "more/a.bmp", "more/.hidden.png")
    (tmp_path / "list.txt").write_text("more/a.bmp\n")

    def names(place: str, *cameras: str) -> set[str]:
        return {Path(found.image).name for found in list_archive([str(tmp_path / place)], cameras)}

    assert names("") == {"093015123_top_42_1.31.png", "a.bmp"}
    assert names("m*") == {"a.bmp"}
    assert names("list.txt") == {"a.bmp"}
    assert names("", "top") == {"093015123_top_42_1.31.png"}


def test_an_object_store_is_listed(tmp_path: Path) -> None:
    fill(tmp_path, f"{SNAPSHOT}.png", f"{SNAPSHOT}.jpg", "more/a.bmp")
    found = {image.image for image in list_archive([f"local://{tmp_path}"])}
    assert found == {f"file://{tmp_path}/{SNAPSHOT}.png", f"file://{tmp_path}/more/a.bmp"}


@pytest.mark.parametrize(("place", "says"), [("gone", "no such file or folder"), ("", "no images")])
def test_a_place_without_images_is_named(tmp_path: Path, place: str, says: str) -> None:
    with pytest.raises(FleetError, match=says):
        list(list_archive([str(tmp_path / place)]))
