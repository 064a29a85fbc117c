"""Retention deletes what the limits name, oldest first, and nothing else."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from monitor.settings import SnapshotSettings
from monitor.snapshots.folder_scan import SnapshotError
from tests.unit.snapshots.sets import (
    FRAME,
    NOW,
    OVERLAY,
    PAYLOAD,
    folder_at,
    mounted,
    names,
    path_at,
    put_set,
)


def test_old_snapshots_make_room_on_a_small_disk(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    with mounted(tmp_path / "small", "size=1m"):
        root = tmp_path / "small" / "snapshots"
        folder, clock = folder_at(root)
        for frame in range(1, 21):
            folder.write(path_at(clock.moment, frame), OVERLAY, noise, PAYLOAD)
            clock.advance(timedelta(seconds=1))
        kept = sorted(root.rglob("*.json"))
        assert 2 <= len(kept) < 20
        assert "_20_" in kept[-1].name
        assert folder.count == len(kept)


def test_too_little_free_space_is_one_line_of_error_and_deletes_no_snapshot_in_vain(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=4m"):
        root = tmp_path / "small" / "snapshots"
        old = put_set(root, NOW - timedelta(days=1))
        folder, clock = folder_at(root, SnapshotSettings(min_free_gb=5))
        folder.prune()
        with pytest.raises(SnapshotError, match=r"0\.00\d+ GB free.*min_free_gb"):
            folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD)
        assert old.exists()
        assert len(names(root)) == 3


def test_sets_are_kept_for_keep_days_and_empty_folders_are_removed(tmp_path: Path) -> None:
    for days in (40, 31, 29, 1, 0):
        put_set(tmp_path, NOW - timedelta(days=days))
    folder, _ = folder_at(tmp_path)
    assert folder.prune() == 2
    assert sorted(day.name for day in tmp_path.iterdir()) == ["2026-10-25", "2026-11-22", "2026-11-23"]
    assert folder.prune() == 0


def test_labelled_sets_outlive_keep_days_and_are_deleted_last_for_space(tmp_path: Path) -> None:
    labelled = put_set(tmp_path, NOW - timedelta(days=60), labels=("scratch",))
    newer = [put_set(tmp_path, NOW - timedelta(minutes=m), frame=m) for m in (3, 2, 1)]
    folder, _ = folder_at(tmp_path)
    assert folder.prune() == 0
    one = folder.total_bytes / 4
    folder, _ = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, max_gb=2.2 * one / 1e9))
    assert folder.prune() == 2
    assert [jpg.exists() for jpg in (labelled, *newer)] == [True, False, False, True]
    folder, _ = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, max_gb=one / 1e10))
    assert folder.prune() == 2
    assert names(tmp_path) == []


def test_a_label_given_after_the_scan_still_counts(tmp_path: Path) -> None:
    jpg = put_set(tmp_path, NOW - timedelta(days=1))
    put_set(tmp_path, NOW, frame=2)
    folder, clock = folder_at(tmp_path)
    folder.prune()
    jpg.with_suffix(".json").write_text(json.dumps({**PAYLOAD, "labels": ["scratch"]}))
    clock.advance(timedelta(days=40))
    put_set(tmp_path, clock.moment, frame=3)
    assert folder.prune() == 1
    assert jpg.exists()


@pytest.mark.parametrize("content", ["", "[]", "nonsense", "[" * 60_000, '{"labels": ' + "9" * 400 + "}"])
def test_a_damaged_json_stops_neither_writing_nor_deleting(tmp_path: Path, content: str) -> None:
    day = timedelta(days=1)
    old = put_set(tmp_path, NOW - 40 * day)
    put_set(tmp_path, NOW)
    old.with_suffix(".json").write_text(content)
    folder, _ = folder_at(tmp_path, SnapshotSettings(keep_days=30, min_free_gb=0))
    folder.prune()
    assert old.exists() is (content[:2] == '{"')
    folder.write(path_at(NOW, 7), OVERLAY, FRAME, PAYLOAD)


def test_the_size_limit_holds_while_writing_oldest_first(tmp_path: Path) -> None:
    folder, clock = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, max_gb=3e-5))
    for frame in range(1, 31):
        folder.write(path_at(clock.moment, frame), OVERLAY, FRAME, PAYLOAD)
        clock.advance(timedelta(hours=1))
        assert folder.total_bytes <= 30_000
    kept = sorted(int(file.name.split("_")[2]) for file in tmp_path.rglob("*.json"))
    assert kept == list(range(31 - len(kept), 31))
    assert len(kept) > 3
    assert sum((tmp_path / name).stat().st_size for name in names(tmp_path)) == folder.total_bytes


@pytest.mark.parametrize("years", [12, -12])
def test_a_clock_that_steps_deletes_nothing(tmp_path: Path, years: int) -> None:
    folder, clock = folder_at(tmp_path)
    for days in (20, 10, 0):
        put_set(tmp_path, NOW - timedelta(days=days))
    folder.prune()
    clock.step(timedelta(days=365 * years))
    for frame in range(2, 5):
        folder.write(path_at(clock.moment, frame), OVERLAY, FRAME, PAYLOAD)
        clock.advance(timedelta(minutes=6))
        assert folder.prune() == 0
    assert folder.count == 6


def test_a_step_that_has_stood_for_a_day_is_believed(tmp_path: Path) -> None:
    folder, clock = folder_at(tmp_path)
    put_set(tmp_path, NOW)
    folder.prune()
    clock.step(timedelta(days=100))
    folder.write(path_at(clock.moment, 2), OVERLAY, FRAME, PAYLOAD)
    assert folder.prune() == 0
    clock.advance(timedelta(hours=25))
    assert folder.prune() == 1


def test_age_alone_never_empties_the_folder(tmp_path: Path) -> None:
    for days in (100, 90):
        put_set(tmp_path, NOW - timedelta(days=days))
    folder, clock = folder_at(tmp_path)
    assert folder.prune() == 1
    folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD)
    assert folder.prune() == 1
    assert folder.count == 1


def test_one_folder_that_cannot_be_deleted_does_not_keep_the_others(tmp_path: Path) -> None:
    stuck = put_set(tmp_path, NOW - timedelta(days=50))
    put_set(tmp_path, NOW - timedelta(days=40))
    put_set(tmp_path, NOW)
    if subprocess.run(["chattr", "+i", str(stuck)], check=False, capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        folder, _ = folder_at(tmp_path)
        with pytest.raises(SnapshotError, match="no permission"):
            folder.prune()
        assert stuck.exists()
        assert len(list(tmp_path.rglob("*.json"))) == 1
    finally:
        subprocess.run(["chattr", "-i", str(stuck)], check=True)


def test_thousands_of_labelled_sets_do_not_slow_each_write_at_the_limit(tmp_path: Path) -> None:
    """Labelled sets are the oldest here, so retention passes all of them before it finds a set to delete."""
    for n in range(1500):
        put_set(tmp_path, NOW - timedelta(days=1, seconds=n), n, labels=("overkill",))
    for n in range(40):
        put_set(tmp_path, NOW - timedelta(seconds=n), n)
    total = sum(file.stat().st_size for file in tmp_path.rglob("*.*"))
    folder, clock = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, max_gb=total / 1e9))
    folder.prune()
    folder.write(path_at(clock.moment, 9000), OVERLAY, FRAME, PAYLOAD)
    started = time.process_time()
    for n in range(10):
        folder.write(path_at(clock.moment, 9001 + n), OVERLAY, FRAME, PAYLOAD)
    assert time.process_time() - started < 0.2
    assert len(list(tmp_path.rglob("*_9*_0.02.json"))) >= 11
    assert sum("overkill" in file.read_text() for file in tmp_path.rglob("*.json")) == 1500
