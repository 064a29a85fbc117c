"""The snapshot folder: whole sets or none, and retention that deletes what it should and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from monitor.settings import SnapshotSettings
from monitor.snapshots.folder import SnapshotError, SnapshotFolder
from monitor.verdict import snapshot_path

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
OVERLAY = np.full((40, 80, 3), 90, np.uint8)
FRAME = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
PAYLOAD = {"schema": 1, "verdict": "reject", "score": 0.02}
NO_FLOOR = SnapshotSettings(min_free_gb=0)


class Clock:
    """UTC and monotonic time that move together, until `step` moves UTC alone."""

    def __init__(self) -> None:
        self.moment = NOW
        self.monotonic = 0

    def utc_ns(self) -> int:
        return ns(self.moment)

    def monotonic_ns(self) -> int:
        return self.monotonic

    def advance(self, by: timedelta) -> None:
        self.moment += by
        self.monotonic += int(by.total_seconds() * 1e9)

    def step(self, by: timedelta) -> None:
        self.moment += by


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def path_at(moment: datetime, frame: int = 1, camera: str = "top") -> str:
    return snapshot_path(ns(moment), camera, frame, 0.02)


def folder_at(
    root: Path, settings: SnapshotSettings = NO_FLOOR, clock: Clock | None = None
) -> tuple[SnapshotFolder, Clock]:
    clock = clock or Clock()
    return SnapshotFolder(root, settings, utc_ns=clock.utc_ns, monotonic_ns=clock.monotonic_ns), clock


def names(root: Path) -> list[str]:
    return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())


def put_set(
    root: Path, moment: datetime, frame: int = 1, *, size: int = 100, labels: tuple[str, ...] = ()
) -> Path:
    """A set as a former run left it; returns its `.jpg`."""
    jpg = root / path_at(moment, frame)
    jpg.parent.mkdir(parents=True, exist_ok=True)
    jpg.write_bytes(bytes(size))
    jpg.with_suffix(".png").write_bytes(bytes(size))
    jpg.with_suffix(".json").write_text(json.dumps({**PAYLOAD, "labels": list(labels)}))
    return jpg


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A small real file system at `place`; the yielded function remounts it with other options."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield (
            lambda other: subprocess.run(["mount", "-o", f"remount,{other}", str(place)], check=True) and None
        )
    finally:
        subprocess.run(["umount", str(place)], check=True)


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
def test_a_path_that_is_no_snapshots_is_refused(tmp_path: Path, relative: str) -> None:
    folder, _ = folder_at(tmp_path)
    with pytest.raises(ValueError, match="not a snapshot's path"):
        folder.write(relative, OVERLAY, FRAME, PAYLOAD)


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (600, 900, 3)).astype(np.uint8)
    with mounted(tmp_path / "small", "size=1m"):
        # No free-space floor and nothing known of other files: the writes themselves run into the end.
        root = tmp_path / "small" / "snapshots"
        folder, clock = folder_at(root)
        folder._lacking_free = lambda size: 0  # type: ignore[method-assign]
        with pytest.raises(SnapshotError, match="the disk is full") as failure:
            folder.write(path_at(clock.moment), OVERLAY, large, PAYLOAD)
        assert "\n" not in str(failure.value)
        assert not root.exists() or list(root.rglob("*")) == []
        assert folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD) > 0


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


def test_too_little_free_space_is_one_line_and_costs_no_evidence(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=4m"):
        root = tmp_path / "small" / "snapshots"
        old = put_set(root, NOW - timedelta(days=1))
        folder, clock = folder_at(root, SnapshotSettings(min_free_gb=5))
        folder.prune()
        with pytest.raises(SnapshotError, match=r"0\.00\d+ GB free.*min_free_gb"):
            folder.write(path_at(clock.moment), OVERLAY, FRAME, PAYLOAD)
        assert old.exists()
        assert len(names(root)) == 3


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


def test_what_a_killed_writer_left_is_removed_and_foreign_files_stay(tmp_path: Path) -> None:
    jpg = put_set(tmp_path, NOW)
    left = jpg.with_name(f".{jpg.name}.0123abcd.tmp")
    left.write_bytes(b"half")
    foreign = [tmp_path / "README", tmp_path / "2020-01-01" / "notes.txt", jpg.with_name("holiday.jpg")]
    for file in foreign:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    folder, _ = folder_at(tmp_path, SnapshotSettings(min_free_gb=0, keep_days=0.001, max_gb=1e-9))
    folder.prune()
    assert not left.exists()
    assert all(file.exists() for file in foreign)
    assert folder.count == 0


def test_days_are_kept_as_long_as_they_should_and_empty_ones_go(tmp_path: Path) -> None:
    for days in (40, 31, 29, 1, 0):
        put_set(tmp_path, NOW - timedelta(days=days))
    folder, _ = folder_at(tmp_path)
    assert folder.prune() == 2
    assert sorted(day.name for day in tmp_path.iterdir()) == ["2026-10-25", "2026-11-22", "2026-11-23"]
    assert folder.prune() == 0


def test_labelled_sets_outlive_the_days_and_go_last_for_space(tmp_path: Path) -> None:
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
def test_a_damaged_json_keeps_nothing_from_being_written_and_deleted(tmp_path: Path, content: str) -> None:
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


def test_a_label_that_was_never_whole_is_removed_and_one_being_written_is_not(tmp_path: Path) -> None:
    jpg = put_set(tmp_path, NOW)
    old, fresh = (jpg.parent / f".writing-{name}" for name in ("old", "fresh"))
    for file, age_s in ((old, 7200), (fresh, 5)):
        file.write_text("{")
        os.utime(file, ns=(ns(NOW) - age_s * 10**9,) * 2)
    folder, _ = folder_at(tmp_path)
    folder.prune()
    assert not old.exists()
    assert fresh.exists()


def test_thousands_of_labelled_sets_do_not_slow_each_write_at_the_limit(tmp_path: Path) -> None:
    """They are the oldest, so whoever looks for something to delete meets them first, every time."""
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
