"""Snapshot files: a name never leads out of the folder, and a label changes nothing but the label."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles
from monitor.snapshots.labels import Label, LabelEntry
from tests.real.snapshot_set import write_snapshot


def test_a_label_keeps_the_rest_of_the_json_and_can_be_taken_back(
    tmp_path: Path, keys: list[Key], overkill: LabelEntry
) -> None:
    files = SnapshotFiles(tmp_path)
    json_file = tmp_path / f"{keys[0].path}.json"
    before = json.loads(json_file.read_text())
    assert files.label(keys[0], overkill).label is Label.OVERKILL
    after = json.loads(json_file.read_text())
    assert after.pop("labels") == [{"label": "overkill", "by": "ab", "utc": overkill.utc}]
    assert after == {name: value for name, value in before.items() if name != "labels"}
    files.label(keys[0], LabelEntry(Label.DEFECT))
    assert files.details(keys[0]).label is Label.DEFECT
    assert files.label(keys[0], None).label_entry is None
    assert json.loads(json_file.read_text())["labels"] == []


def test_a_label_never_brings_a_deleted_snapshot_back(
    tmp_path: Path, keys: list[Key], overkill: LabelEntry
) -> None:
    files = SnapshotFiles(tmp_path)
    for suffix in (".png", ".jpg"):
        (tmp_path / f"{keys[0].path}{suffix}").unlink()
    with pytest.raises(NoSuchSnapshot):
        files.label(keys[0], overkill)
    assert not (tmp_path / f"{keys[0].path}.json").exists()


def test_half_a_character_in_a_name_is_left_out_and_the_label_stays(tmp_path: Path, keys: list[Key]) -> None:
    content = '{"labels": [{"label": "overkill", "by": "\\ud800", "utc": "\\udfff"}]}'
    (tmp_path / f"{keys[9].path}.json").write_text(content)
    assert SnapshotFiles(tmp_path).details(keys[9]).label_entry == LabelEntry(Label.OVERKILL)


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


def test_links_are_not_followed(tmp_path: Path, now: datetime) -> None:
    root, outside = tmp_path / "snapshots", tmp_path / "outside"
    outside.mkdir()
    key = write_snapshot(outside, now, 1)
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
