"""The rows of a rescored archive, without Ray."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monitor.fleet.archive_listing import ArchiveImage
from monitor.fleet.archive_scorer import judge_image, read_shard, write_shard
from monitor.fleet.fleet_error import FleetError


def result(score: float) -> Any:
    return SimpleNamespace(score=score)


@pytest.mark.parametrize(
    ("found", "is_readable", "verdict", "reason", "score"),
    [
        (result(0.5), True, "reject", None, 0.5),
        (result(0.4), True, "pass", None, 0.4),
        (result(math.nan), True, "uninspected", "bad_score", None),
        (None, True, "pass", "no_part", None),
        (None, False, "uninspected", "bad_frame", None),
    ],
)
def test_an_image_is_judged_as_on_the_line(
    found: Any, is_readable: bool, verdict: str, reason: str | None, score: float | None
) -> None:
    row = judge_image(found, 0.4, is_readable=is_readable)
    assert row == {"score": score, "verdict": verdict, "reason": reason}


def test_a_shard_of_the_listing_comes_back_as_it_was(tmp_path: Path) -> None:
    entries = [ArchiveImage("/a.png"), ArchiveImage("s3://b/c.png", "2026-11-29T09:30:15.123Z", "top")]
    write_shard(tmp_path / "a.parquet", entries)
    assert read_shard(tmp_path / "a.parquet") == entries
    with pytest.raises(FleetError, match="shared folder"):
        read_shard(tmp_path / "b.parquet")
