"""The rows of a rescored archive, without Ray."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monitor.fleet.archive_listing import ArchiveImage
from monitor.fleet.archive_scorer import (
    ArchiveScorer,
    ScorerSettings,
    find_recipe,
    judge_image,
    read_shard,
    write_shard,
)
from monitor.fleet.fleet_error import FleetError
from monitor.model.in_force import Approval, put_in_force
from monitor.verdict import snapshot_path
from tests.real.parts import part, random_recipe, save


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


def test_a_name_is_the_version_in_force_and_rows_name_versions_as_verdicts_do(tmp_path: Path) -> None:
    first = random_recipe(tmp_path / "recipes/disc")
    second = first.with_changes(statement="newer").commit()
    put_in_force(first.folder, 1, Approval(who="anna", utc="2026-11-29T09:30:15Z", meaning="approved"))
    recipes = tmp_path / "recipes"
    in_force, newest = find_recipe(recipes, "disc"), find_recipe(recipes, "disc@2")
    assert (in_force.version, in_force.sha) == (1, first.sha)
    assert (newest.version, newest.sha) == (2, second.sha)
    assert find_recipe(recipes, str(first.folder)) == in_force

    frame = tmp_path / snapshot_path(1_793_000_000_000_000_000, "top", 1, 0.5)
    image = str(save(frame.with_suffix(".png"), part(1)))
    frame.with_suffix(".json").write_text(json.dumps({"verdict": "pass", "version": 7, "recipe_sha": "ab"}))
    scorer = ArchiveScorer([in_force, newest], ScorerSettings("cpu", "torch", "f32", threads=1))
    entry = ArchiveImage(image, "2026-10-26T05:33:20.000Z", "top")
    rows = list(scorer.rows([entry]))
    assert [(row["recipe"], row["version"], row["recipe_sha"]) for row in rows] == [
        ("disc", 1, first.sha),
        ("disc", 2, second.sha),
    ]
    assert (rows[0]["line_version"], rows[0]["line_recipe_sha"]) == (7, "ab")

    # A snapshot of a challenge part is no production.
    challenge = frame.with_name("053321000_top_2_0.5")
    save(challenge.with_suffix(".png"), part(2))
    challenge.with_suffix(".json").write_text(json.dumps({"verdict": "reject", "challenge": "bad-1"}))
    shown = ArchiveImage(str(challenge.with_suffix(".png")), "2026-10-26T05:33:21.000Z", "top")
    assert [row["image"] for row in scorer.rows([shown, entry])] == [image, image]
