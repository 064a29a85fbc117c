"""The snapshot index finds every snapshot within a time limit, whatever happens to the folder meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.review.filters import Filters, PageStart
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import Key, SnapshotFiles
from monitor.review.snapshot_index import IndexEntry, SnapshotIndex, _Folder
from monitor.snapshots.labels import NO_DETAILS, LabelEntry, SnapshotDetails
from tests.real.snapshot_set import DAMAGED_JSON, write_snapshot


def indexed(root: Path) -> SnapshotIndex:
    index = SnapshotIndex(SnapshotFiles(root))
    index.step()
    return index


def shown(index: SnapshotIndex, count: int = 100, start: PageStart | None = None, **wish: Any) -> list[Key]:
    return [entry.key for entry in index.page(Filters(**wish), count, start).entries]


def test_the_newest_come_first_over_days_and_cameras(tmp_path: Path, keys: list[Key]) -> None:
    assert len({key.day for key in keys}) == 2
    assert shown(indexed(tmp_path)) == keys[::-1]


def test_pages_follow_each_other_without_gap_or_repeat_in_both_directions(
    tmp_path: Path, keys: list[Key]
) -> None:
    index = indexed(tmp_path)
    seen: list[Key] = []
    start = None
    while True:
        page = index.page(Filters(), 3, start)
        seen += [entry.key for entry in page.entries]
        assert page.is_first == (start is None)
        if page.is_last:
            break
        start = PageStart("older", seen[-1].order)
    assert seen == keys[::-1]
    assert shown(index, 3, PageStart("newer", keys[3].order)) == keys[6:3:-1]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"camera": "top"}, {1, 3, 5, 7, 9}),
        ({"recipe": "plate"}, {5, 6, 7, 8, 9}),
        ({"least": 0.027}, {7, 8, 9}),
        ({"most": 0.021}, {0, 1}),
        ({"label": "overkill"}, {4}),
        ({"label": "none", "camera": "side"}, {0, 2, 6, 8}),
        ({"label": "any"}, {4}),
        ({"verdict": "pass"}, set()),
        ({"verdict": "all"}, set(range(10))),
    ],
)
def test_each_filter_shows_what_it_says_and_counts_it(
    tmp_path: Path, keys: list[Key], wish: dict[str, Any], expected: set[int], overkill: LabelEntry
) -> None:
    SnapshotFiles(tmp_path).label(keys[4], overkill)
    index = indexed(tmp_path)
    assert shown(index, **wish) == [keys[n] for n in sorted(expected, reverse=True)]
    assert index.count(Filters(**wish)) == len(expected)


def test_a_night_shift_is_found_over_midnight_and_days_are_those_of_the_plant(
    tmp_path: Path, keys: list[Key]
) -> None:
    # The snapshots are from 21:40 to 00:40 UTC, in New York from 16:40 to 19:40 of one day.
    plant, index = PlantClock("America/New_York", ("06:00", "18:00")), indexed(tmp_path)
    assert index.days(plant) == {"2026-11-23": 10}
    assert index.days(PlantClock("UTC", ("06:00",))) == {"2026-11-24": 3, "2026-11-23": 7}
    late = Filters(day="2026-11-23", shift="18:00").within(plant)
    assert index.count(late) == 6
    assert [entry.key for entry in index.page(late, 100).entries] == keys[:3:-1]


def test_neighbours_are_those_of_the_filter(tmp_path: Path, keys: list[Key]) -> None:
    index = indexed(tmp_path)
    assert index.neighbours(Filters(), keys[4]) == (keys[5], keys[3])
    assert index.neighbours(Filters(camera="top"), keys[4]) == (keys[5], keys[3])
    assert index.neighbours(Filters(camera="side"), keys[4]) == (keys[6], keys[2])
    assert index.neighbours(Filters(), keys[9]) == (None, keys[8])
    assert index.neighbours(Filters(), keys[0]) == (keys[1], None)


def test_what_comes_and_goes_by_hand_is_followed(tmp_path: Path, keys: list[Key], now: datetime) -> None:
    index = indexed(tmp_path)
    for suffix in (".jpg", ".png", ".json"):
        (tmp_path / f"{keys[9].path}{suffix}").unlink()
    (tmp_path / f"{keys[8].path}.json").unlink()
    for file in (tmp_path / keys[0].day / "side").iterdir():
        file.unlink()
    (tmp_path / keys[0].day / "side").rmdir()
    newest = write_snapshot(tmp_path, now, 11)
    (tmp_path / "2026-11-24" / "top" / "notes.txt").write_text("not a snapshot")
    (tmp_path / "lost+found").mkdir()
    index.step()
    left = [key for key in keys if key != keys[9] and (key.day, key.camera) != (keys[0].day, "side")]
    assert shown(index) == [newest, *left[::-1]]
    assert index.total() == len(left) + 1


def test_an_empty_or_missing_folder_is_an_empty_wall(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        index = indexed(root)
        assert shown(index) == []
        assert index.complete


def test_a_page_reads_what_the_index_has_not_come_to(tmp_path: Path, keys: list[Key]) -> None:
    index = SnapshotIndex(SnapshotFiles(tmp_path))
    index._read_names(False, lambda: None)
    assert shown(index, recipe="plate") == keys[:4:-1]


def test_a_label_by_another_hand_shows_in_filters_once_all_is_read_again(
    tmp_path: Path, keys: list[Key], overkill: LabelEntry
) -> None:
    clock = [0.0]
    index = SnapshotIndex(SnapshotFiles(tmp_path), clock=lambda: clock[0])
    index.step()
    SnapshotFiles(tmp_path).label(keys[2], overkill)
    clock[0] += 1000
    index.step()
    assert shown(index, label="overkill") == [keys[2]]


@pytest.mark.parametrize("content", DAMAGED_JSON.values(), ids=DAMAGED_JSON)
def test_a_damaged_json_is_a_snapshot_nobody_knows_anything_about(
    tmp_path: Path, keys: list[Key], content: str
) -> None:
    (tmp_path / f"{keys[9].path}.json").write_text(content)
    index = indexed(tmp_path)
    assert shown(index)[0] == keys[9]
    details = index.details(index.find(keys[9]))
    assert (details.recipe, details.score, details.label) == ("", None, None)
    f"{details}".encode()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_named_like_a_json_and_is_no_file_keeps_nobody_waiting(
    tmp_path: Path, keys: list[Key], make: Callable[[Path], None]
) -> None:
    file = tmp_path / f"{keys[9].path}.json"
    file.unlink()
    make(file)
    index = indexed(tmp_path)
    assert index.details(index.find(keys[9])) == NO_DETAILS
    assert index.unread == 0


def test_one_snapshot_that_can_not_be_read_is_said_once_and_the_others_are_seen(
    tmp_path: Path, keys: list[Key], caplog: pytest.LogCaptureFixture
) -> None:
    class FailingFiles(SnapshotFiles):
        """Raises an exception that the index does not expect."""

        def details(self, key: Key) -> SnapshotDetails:
            if key == keys[9]:
                raise RuntimeError("never seen before")
            return super().details(key)

    index = SnapshotIndex(FailingFiles(tmp_path))
    index.start()
    try:
        until = time.monotonic() + 10
        while (not index.complete or index.unread) and time.monotonic() < until:
            time.sleep(0.01)
        assert shown(index, verdict="all")[0] == keys[9]
        assert shown(index, label="none", recipe="disc") == keys[4::-1]
        index.details(index.find(keys[9]), fresh=True)
        assert index.is_running
    finally:
        index.stop()
    assert [keys[9].path in message for message in caplog.messages] == [True]


def test_the_first_page_of_a_hundred_thousand_comes_within_300_ms(tmp_path: Path, now: datetime) -> None:
    """In memory only: writing a real folder takes half a minute (`tests.benchmarks.review_page`)."""
    key = write_snapshot(tmp_path, now, 1)
    index = indexed(tmp_path)
    details = index.details(index.find(key))
    for day in range(10):
        name = f"2026-10-{day + 10}"
        stems = [f"{n // 3600:02d}{n // 60 % 60:02d}{n % 60:02d}000_top_{n}_0.02" for n in range(10_000)]
        index._folders[name, "top"] = _Folder(
            1, {stem: IndexEntry(Key(name, "top", stem), details) for stem in stems}
        )
        index._publish(name)
    assert index.total() == 100_001
    started = time.process_time()
    assert len(index.page(Filters(), 48).entries) == 48
    first = time.process_time() - started
    started = time.process_time()
    assert len(index.page(Filters(label="none", camera="top"), 48).entries) == 48
    assert index.count(Filters(label="none", camera="top")) == 100_001
    filtered = time.process_time() - started
    assert first < 0.1
    assert filtered < 0.3
