"""The review page finds every snapshot, quickly, whatever happens to the folder meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.review.application import build
from monitor.review.filters import BadFilter, Filters, Place
from monitor.review.labels import UNKNOWN, About, Label, Said, encoded
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles
from monitor.review.snapshot_index import Entry, Index, _Folder
from monitor.settings import LineSettings, Settings
from monitor.verdict import snapshot_path

NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
DAMAGED = {
    "empty": "",
    "a list": "[]",
    "nonsense": "nonsense",
    "wrong kinds": '{"labels": 3, "score": "x", "verdict": []}',
    "unknown label": '{"labels": ["hm"]}',
    "too deep": "[" * 60_000,
    "too large a number": '{"score": ' + "9" * 400 + "}",
    "half a character": r'{"recipe": "\ud800"}',
}
SAID = Said(Label.OVERKILL, "ab", "2026-11-24T01:00:00.000Z")


def put(
    root: Path, moment: datetime, frame: int, *, camera: str = "top", score: float = 0.02, **more: Any
) -> Key:
    jpg = root / snapshot_path(int(moment.timestamp()) * 10**9, camera, frame, score)
    jpg.parent.mkdir(parents=True, exist_ok=True)
    payload = {"verdict": "reject", "recipe": "disc", "score": score, "threshold": 0.01, "labels": [], **more}
    jpg.write_bytes(b"jpg")
    jpg.with_suffix(".png").write_bytes(b"png")
    jpg.with_suffix(".json").write_text(json.dumps(payload))
    return Key(jpg.parent.parent.name, camera, jpg.stem)


@pytest.fixture
def keys(tmp_path: Path) -> list[Key]:
    """Ten, oldest first, over two days and two cameras."""
    return [
        put(
            tmp_path,
            NOW - timedelta(minutes=20 * (10 - n)),
            n,
            camera="top" if n % 2 else "side",
            score=0.02 + n / 1000,
            recipe="disc" if n < 5 else "plate",
        )
        for n in range(10)
    ]


def indexed(root: Path) -> Index:
    index = Index(SnapshotFiles(root))
    index.step()
    return index


def shown(index: Index, count: int = 100, place: Place | None = None, **wish: Any) -> list[Key]:
    return [entry.key for entry in index.page(Filters(**wish), count, place).entries]


def test_the_newest_come_first_over_days_and_cameras(tmp_path: Path, keys: list[Key]) -> None:
    assert len({key.day for key in keys}) == 2
    assert shown(indexed(tmp_path)) == keys[::-1]


def test_pages_follow_each_other_without_gap_or_repeat_in_both_directions(
    tmp_path: Path, keys: list[Key]
) -> None:
    index = indexed(tmp_path)
    seen: list[Key] = []
    place = None
    while True:
        page = index.page(Filters(), 3, place)
        seen += [entry.key for entry in page.entries]
        assert page.is_first == (place is None)
        if page.is_last:
            break
        place = Place("older", seen[-1].order)
    assert seen == keys[::-1]
    assert shown(index, 3, Place("newer", keys[3].order)) == keys[6:3:-1]


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
    tmp_path: Path, keys: list[Key], wish: dict[str, Any], expected: set[int]
) -> None:
    SnapshotFiles(tmp_path).label(keys[4], SAID)
    index = indexed(tmp_path)
    assert shown(index, **wish) == [keys[n] for n in sorted(expected, reverse=True)]
    assert index.count(Filters(**wish)) == len(expected)


def test_neighbours_are_those_of_the_filter(tmp_path: Path, keys: list[Key]) -> None:
    index = indexed(tmp_path)
    assert index.neighbours(Filters(), keys[4]) == (keys[5], keys[3])
    assert index.neighbours(Filters(camera="top"), keys[4]) == (keys[5], keys[3])
    assert index.neighbours(Filters(camera="side"), keys[4]) == (keys[6], keys[2])
    assert index.neighbours(Filters(), keys[9]) == (None, keys[8])
    assert index.neighbours(Filters(), keys[0]) == (keys[1], None)


def test_what_comes_and_goes_by_hand_is_followed(tmp_path: Path, keys: list[Key]) -> None:
    index = indexed(tmp_path)
    for suffix in (".jpg", ".png", ".json"):
        (tmp_path / f"{keys[9].path}{suffix}").unlink()
    (tmp_path / f"{keys[8].path}.json").unlink()
    for file in (tmp_path / keys[0].day / "side").iterdir():
        file.unlink()
    (tmp_path / keys[0].day / "side").rmdir()
    newest = put(tmp_path, NOW, 11)
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
    index = Index(SnapshotFiles(tmp_path))
    index._read_names(False, lambda: None)
    assert shown(index, recipe="plate") == keys[:4:-1]


def test_a_label_by_another_hand_shows_in_filters_once_all_is_read_again(
    tmp_path: Path, keys: list[Key]
) -> None:
    clock = [0.0]
    index = Index(SnapshotFiles(tmp_path), clock=lambda: clock[0])
    index.step()
    SnapshotFiles(tmp_path).label(keys[2], SAID)
    clock[0] += 1000
    index.step()
    assert shown(index, label="overkill") == [keys[2]]


def test_a_label_keeps_the_rest_of_the_json_and_can_be_taken_back(tmp_path: Path, keys: list[Key]) -> None:
    files = SnapshotFiles(tmp_path)
    json_file = tmp_path / f"{keys[0].path}.json"
    before = json.loads(json_file.read_text())
    assert files.label(keys[0], SAID).label is Label.OVERKILL
    after = json.loads(json_file.read_text())
    assert after.pop("labels") == [{"label": "overkill", "by": "ab", "utc": SAID.utc}]
    assert after == {name: value for name, value in before.items() if name != "labels"}
    files.label(keys[0], Said(Label.DEFECT))
    assert files.about(keys[0]).label is Label.DEFECT
    assert files.label(keys[0], None).said is None
    assert json.loads(json_file.read_text())["labels"] == []


def test_a_label_never_brings_a_deleted_snapshot_back(tmp_path: Path, keys: list[Key]) -> None:
    files = SnapshotFiles(tmp_path)
    for suffix in (".png", ".jpg"):
        (tmp_path / f"{keys[0].path}{suffix}").unlink()
    with pytest.raises(NoSuchSnapshot):
        files.label(keys[0], SAID)
    assert not (tmp_path / f"{keys[0].path}.json").exists()


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_json_is_a_snapshot_nobody_knows_anything_about(
    tmp_path: Path, keys: list[Key], content: str
) -> None:
    (tmp_path / f"{keys[9].path}.json").write_text(content)
    index = indexed(tmp_path)
    assert shown(index)[0] == keys[9]
    about = index.about(index.find(keys[9]))
    assert (about.recipe, about.score, about.label) == ("", None, None)
    f"{about}".encode()


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_every_page_is_shown_with_a_damaged_json_among_the_others(tmp_path: Path, content: str) -> None:
    settings = Settings(line=LineSettings(data=tmp_path))
    key = put(tmp_path / "snapshots", datetime.now(UTC), 1)
    (tmp_path / "snapshots" / f"{key.path}.json").write_text(content)
    application = build(settings)
    application.index.step()
    page = application.wsgi.test_client()
    for path in ("/", "/today", f"/part/{key.path}"):
        answer = page.get(path, headers={"Host": "localhost"})
        assert answer.status_code == 200, answer.text
        assert key.path in answer.text or path == "/today"


def test_half_a_character_in_a_name_is_left_out_and_the_label_stays(tmp_path: Path, keys: list[Key]) -> None:
    said = '{"labels": [{"label": "overkill", "by": "\\ud800", "utc": "\\udfff"}]}'
    (tmp_path / f"{keys[9].path}.json").write_text(said)
    assert SnapshotFiles(tmp_path).about(keys[9]).said == Said(Label.OVERKILL)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_named_like_a_json_and_is_no_file_keeps_nobody_waiting(
    tmp_path: Path, keys: list[Key], make: Callable[[Path], None]
) -> None:
    file = tmp_path / f"{keys[9].path}.json"
    file.unlink()
    make(file)
    index = indexed(tmp_path)
    assert index.about(index.find(keys[9])) == UNKNOWN
    assert index.unread == 0


def test_what_is_too_deep_to_be_read_again_is_not_written() -> None:
    deep: list[Any] = []
    for _ in range(60_000):
        deep = [deep]
    with pytest.raises(ValueError, match="too deep"):
        encoded({"deep": deep})


def test_one_snapshot_that_can_not_be_read_is_said_once_and_the_others_are_seen(
    tmp_path: Path, keys: list[Key], caplog: pytest.LogCaptureFixture
) -> None:
    class Troubled(SnapshotFiles):
        """A trouble that nobody has thought of."""

        def about(self, key: Key) -> About:
            if key == keys[9]:
                raise RuntimeError("never seen before")
            return super().about(key)

    index = Index(Troubled(tmp_path))
    index.start()
    try:
        until = time.monotonic() + 10
        while (not index.complete or index.unread) and time.monotonic() < until:
            time.sleep(0.01)
        assert shown(index, verdict="all")[0] == keys[9]
        assert shown(index, label="none", recipe="disc") == keys[4::-1]
        index.about(index.find(keys[9]), fresh=True)
        assert index.follows
    finally:
        index.stop()
    assert [keys[9].path in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("day", "camera", "stem"),
    [
        ("..", "top", "010000000_top_1_0.02"),
        ("2026-11-24", "..", "010000000_top_1_0.02"),
        ("2026-11-24", "top", "../../secret"),
        ("2026-11-24", "top", "010000000_top_1_0.02/../x"),
        ("2026-11-24", "top", "010000000_top_1_0.02\n"),
        ("2026-11-24\0", "top", "010000000_top_1_0.02"),
        ("٢٠٢٦-11-24", "top", "010000000_top_1_0.02"),
    ],
)
def test_no_name_leads_out_of_the_folder(day: str, camera: str, stem: str) -> None:
    with pytest.raises(NoSuchSnapshot):
        Key.parse(day, camera, stem)


def test_links_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "snapshots", tmp_path / "outside"
    outside.mkdir()
    key = put(outside, NOW, 1)
    files = SnapshotFiles(root)
    (root / key.day).mkdir(parents=True)
    (root / key.day / "top").symlink_to(outside / key.day / "top")
    with pytest.raises(NoSuchSnapshot):
        files.read(key, ".png")
    (root / key.day / "top").unlink()
    (root / key.day / "top").mkdir()
    (root / f"{key.path}.png").symlink_to(outside / f"{key.path}.png")
    with pytest.raises(NoSuchSnapshot):
        files.read(key, ".png")


@pytest.mark.parametrize(
    "query",
    [
        {"camera": "../x"},
        {"day": "today"},
        {"label": "bad"},
        {"verdict": "maybe"},
        {"least": "nan"},
        {"most": "1e999"},
        {"least": "-1"},
        {"recipe": "x" * 33},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadFilter):
        Filters.parse(query)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(".5", 0.5), ("0,5", 0.5), (",5", 0.5), ("5.", 5.0), ("1e-3", 1e-3), (" 2,75 ", 2.75), ("3", 3.0)],
)
def test_a_score_is_taken_as_people_write_it(given: str, meant: float) -> None:
    assert Filters.parse({"least": given}).least == meant


@pytest.mark.parametrize("given", [".", ",", "1,2,3", "1.2.3", "1 2", "e5", "٣", "1_0", "0x1", "-.5"])
def test_what_is_no_score_is_refused(given: str) -> None:
    with pytest.raises(BadFilter, match="most: not a score"):
        Filters.parse({"most": given})


@given(least=st.floats(0, allow_nan=False, allow_infinity=False))
@example(0.024610123456789)
def test_a_limit_comes_through_an_address_to_the_last_digit(least: float) -> None:
    assert Filters.parse(Filters(least=least).query()).least == least


def test_filters_survive_the_way_through_an_address() -> None:
    filters = Filters("top", "2026-11-24", "disc", "overkill", "all", 0.01, 2.5)
    assert Filters.parse(filters.query()) == filters
    assert Filters().query() == {}


def test_the_first_page_of_a_hundred_thousand_comes_within_300_ms(tmp_path: Path) -> None:
    """The folder itself is in `tests.benchmarks.review_page`: making so many files takes half a minute."""
    key = put(tmp_path, NOW, 1)
    index = indexed(tmp_path)
    about = index.about(index.find(key))
    for day in range(10):
        name = f"2026-10-{day + 10}"
        stems = [f"{n // 3600:02d}{n // 60 % 60:02d}{n % 60:02d}000_top_{n}_0.02" for n in range(10_000)]
        index._folders[name, "top"] = _Folder(
            1, {stem: Entry(Key(name, "top", stem), about) for stem in stems}
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
