"""The scan counts the files that are named like a snapshot, and removes what killed processes left."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest

from monitor.settings import SnapshotSettings
from monitor.snapshots.folder import SnapshotFolder
from monitor.snapshots.folder_scan import CAMERA, DAY, FILE, STEM, split_path
from monitor.verdict import snapshot_path
from tests.unit.snapshots.sets import (
    FRAME,
    NO_FLOOR,
    NOW,
    OVERLAY,
    PAYLOAD,
    folder_at,
    names,
    ns,
    path_at,
    put_set,
)


@pytest.mark.parametrize("score", [0.0, 0.02, 1.0, 123456.0, 1e-300, 1.7e308, -1e-9])
@pytest.mark.parametrize("camera", ["top", "0-9", "a" * 32])
def test_every_snapshot_path_is_one_of_the_scan_s_names(camera: str, score: float) -> None:
    relative = snapshot_path(ns(NOW), camera, 2**63, score)
    day, key = split_path(relative)
    name = relative.rpartition("/")[2]
    assert relative == f"{day}/{key}.jpg"
    assert DAY.fullmatch(day)
    assert CAMERA.fullmatch(camera)
    assert STEM.fullmatch(name.removesuffix(".jpg"))
    assert FILE.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    [
        "holiday.jpg",
        "180000000_holiday.jpg",
        "180000000_top_1_0.02.txt",
        "180000000_top_1_0.02.jpg.jpg",
        ".json",
    ],
)
def test_files_with_other_names_are_not_counted(tmp_path: Path, name: str) -> None:
    folder_of_day = put_set(tmp_path, NOW).parent
    (folder_of_day / name).write_text("mine")
    folder, _ = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, max_gb=1e-9))
    folder.prune()
    assert folder.count == 0
    assert names(tmp_path) == [f"2026-11-23/top/{name}"]


def test_what_a_killed_writer_left_is_removed_and_foreign_files_stay(tmp_path: Path) -> None:
    jpg = put_set(tmp_path, NOW)
    left = [jpg.with_name(f".{jpg.name}.0123abcd.tmp"), jpg.with_name(".snapshot-0123456789abcdef")]
    for file in left:
        file.write_bytes(b"half")
    foreign = [tmp_path / "README", tmp_path / "2020-01-01" / "notes.txt", jpg.with_name("holiday.jpg")]
    for file in foreign:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    folder, _ = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, keep_days=0.001, max_gb=1e-9))
    folder.prune()
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in foreign)
    assert folder.count == 0


def test_files_deleted_by_hand_break_nothing(tmp_path: Path) -> None:
    folder, clock = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, max_gb=3e-5))
    for frame in range(1, 6):
        folder.write(path_at(clock.moment, frame), OVERLAY, FRAME, PAYLOAD)
    for name in names(tmp_path)[:7]:
        (tmp_path / name).unlink()
    for frame in range(6, 30):
        folder.write(path_at(clock.moment, frame), OVERLAY, FRAME, PAYLOAD)
        folder.prune()
    clock.advance(timedelta(minutes=10))
    folder.prune()
    assert folder.total_bytes == sum((tmp_path / name).stat().st_size for name in names(tmp_path))
    subprocess.run(["rm", "-r", str(tmp_path / f"{NOW:%Y-%m-%d}")], check=True)
    clock.advance(timedelta(minutes=10))
    folder.prune()
    assert (folder.total_bytes, folder.count) == (0, 0)
    assert folder.write(path_at(clock.moment, 99), OVERLAY, FRAME, PAYLOAD) > 0


def test_an_old_temporary_file_is_removed_and_one_being_written_is_not(tmp_path: Path) -> None:
    jpg = put_set(tmp_path, NOW)
    old, fresh = (jpg.parent / f".writing-{name}" for name in ("old", "fresh"))
    for file, age_s in ((old, 7200), (fresh, 5)):
        file.write_text("{")
        os.utime(file, ns=(ns(NOW) - age_s * 10**9,) * 2)
    folder, _ = folder_at(tmp_path)
    folder.prune()
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.timing
def test_a_hundred_thousand_files_do_not_stall_the_writer(tmp_path: Path) -> None:
    moment = NOW - timedelta(days=2)
    for hundred in range(340):
        base = path_at(moment + timedelta(seconds=hundred)).removesuffix("1_0.02.jpg")
        (tmp_path / base).parent.mkdir(parents=True, exist_ok=True)
        for frame in range(100):
            for kind in ("jpg", "png", "json"):
                os.close(os.open(tmp_path / f"{base}{frame}_0.02.{kind}", os.O_CREAT | os.O_WRONLY))
    folder = SnapshotFolder(tmp_path, NO_FLOOR, utc_ns=lambda: ns(NOW))
    slowest, more = 0.0, True
    while more:
        started = time.monotonic()
        more = folder.step()
        folder.write(path_at(NOW, 7), OVERLAY, FRAME, PAYLOAD)
        slowest = max(slowest, time.monotonic() - started)
    assert folder.count == 34_001
    assert slowest < 1.0


def test_a_writer_killed_within_a_set_leaves_only_what_the_next_pass_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up where each of many killed writers leaves a set that no limit counts."""
    folder, clock = folder_at(tmp_path)

    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr("monitor.system.atomic_file._delete", lambda files: None)
    monkeypatch.setattr("monitor.system.atomic_file._rename", killed)
    with pytest.raises(SystemExit):
        folder.write(path_at(clock.moment, 1), OVERLAY, FRAME, PAYLOAD)
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 3
    monkeypatch.undo()
    successor, _ = folder_at(tmp_path)
    successor.prune()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
