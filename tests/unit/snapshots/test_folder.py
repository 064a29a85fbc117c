"""The snapshot folder writes whole sets or none."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from monitor.snapshots.folder_scan import SnapshotError
from tests.unit.snapshots.sets import (
    FRAME,
    OVERLAY,
    PAYLOAD,
    folder_at,
    mounted,
    names,
    path_at,
)


def test_a_set_is_an_overlay_a_lossless_frame_and_the_payload_with_labels(tmp_path: Path) -> None:
    folder, clock = folder_at(tmp_path)
    relative = path_at(clock.moment)
    size = folder.write(relative, OVERLAY, FRAME, PAYLOAD)
    stem = relative.removesuffix(".jpg")
    assert names(tmp_path) == [f"{stem}.jpg", f"{stem}.json", f"{stem}.png"]
    assert sum((tmp_path / name).stat().st_size for name in names(tmp_path)) == size == folder.total_bytes
    assert np.array_equal(cv2.imread(str(tmp_path / f"{stem}.png"), cv2.IMREAD_UNCHANGED), FRAME)
    assert json.loads((tmp_path / f"{stem}.json").read_text()) == {**PAYLOAD, "labels": []}


def test_a_mono_frame_stays_mono(tmp_path: Path) -> None:
    folder, clock = folder_at(tmp_path)
    folder.write(path_at(clock.moment), OVERLAY, FRAME[..., 0], PAYLOAD)
    png = (tmp_path / path_at(clock.moment)).with_suffix(".png")
    assert np.array_equal(cv2.imread(str(png), cv2.IMREAD_UNCHANGED), FRAME[..., 0])


@pytest.mark.parametrize("relative", ["../x/101010123_top_1_1.jpg", "2026-11-23/top/x.jpg", "x.jpg", ""])
def test_a_path_that_no_snapshot_can_have_is_refused(tmp_path: Path, relative: str) -> None:
    folder, _ = folder_at(tmp_path)
    with pytest.raises(ValueError, match="not a snapshot's path"):
        folder.write(relative, OVERLAY, FRAME, PAYLOAD)


def test_a_full_disk_is_one_line_of_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (600, 900, 3)).astype(np.uint8)
    with mounted(tmp_path / "small", "size=1m"):
        # Retention sees enough free space, so the writes themselves fail on the full disk.
        root = tmp_path / "small" / "snapshots"
        folder, clock = folder_at(root)
        folder._retention._lacking_disk = lambda size: 0  # type: ignore[method-assign]
        with pytest.raises(SnapshotError, match="the disk is full") as failure:
            folder.write(path_at(clock.moment), OVERLAY, large, PAYLOAD)
        assert "\n" not in str(failure.value)
        assert not root.exists() or list(root.rglob("*")) == []
        assert folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD) > 0


def test_a_read_only_folder_is_one_line_and_works_again_once_it_is_writable(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=4m") as remount:
        root = tmp_path / "small" / "snapshots"
        folder, clock = folder_at(root)
        remount("ro")
        with pytest.raises(SnapshotError, match="read-only"):
            folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD)
        remount("rw")
        assert folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD) > 0


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("in the way")
    folder, clock = folder_at(tmp_path / "snapshots")
    with pytest.raises(SnapshotError, match="snapshots: "):
        folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD)
    with pytest.raises(SnapshotError, match="snapshots: "):
        folder.prune()
