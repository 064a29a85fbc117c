"""Which verdicts of a rescored archive change: rows through Parquet and DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest

from monitor.fleet.change_page import make_page
from monitor.fleet.comparison import choose_judges, compare, explain_comparison, list_judges, open_scores
from monitor.fleet.fleet_error import FleetError
from monitor.fleet.score_table import DayFiles, make_schema


def row(number: int, version: int, verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "image": f"/a/{number}.png",
        "captured_utc": f"2026-11-{10 + number}T00:00:00.000Z",
        "camera": "top",
        "recipe": "bottle",
        "version": version,
        "recipe_sha": f"{version:064x}",
        "score": 0.5,
        "threshold": 0.4,
        "verdict": verdict,
        **more,
    }


def no_version_in_force(name: str) -> str:
    raise AssertionError(name)


def write(folder: Path, token: str, *rows: dict[str, Any]) -> None:
    files = DayFiles(folder, token)
    files.add(pyarrow.Table.from_pylist(list(rows), schema=make_schema()))
    files.commit()
    files.discard()


def test_changes_are_counted_with_their_labels_and_listed_defects_first(tmp_path: Path) -> None:
    rejected = {"line_verdict": "reject", "line_score": 0.8, "line_threshold": 0.4}
    write(
        tmp_path,
        "aa",
        row(1, 1, "pass", **rejected),
        row(2, 1, "pass", **rejected, label="defect"),
        row(3, 1, "reject", **rejected),
        row(4, 1, "pass"),
    )
    with open_scores(tmp_path) as scores:
        before, after = choose_judges(list_judges(scores), [], no_version_in_force)
        found = compare(scores, before, after, most=1)
    assert (found.before, found.after, found.common) == ("line", "bottle@1", 3)
    assert [(one.before, one.after, one.images, one.defects) for one in found.changes] == [
        ("reject", "pass", 2, 1)
    ]
    assert [image.image for image in found.images] == ["/a/2.png"]
    text = list(explain_comparison(found))
    assert text[0] == "line -> bottle@1: 2 of 3 verdicts change"
    assert text[1] == "reject -> pass: 2 (1 of them labelled real defect)"
    assert text[-1] == "  and 1 more: --most N shows more"
    assert "file:///a/2.png" in make_page(found)


def test_a_version_that_is_rescored_takes_the_place_of_its_rows(tmp_path: Path) -> None:
    write(tmp_path, "aa", row(1, 1, "pass"), row(1, 2, "pass"))
    write(tmp_path, "bb", row(1, 2, "reject"))
    with open_scores(tmp_path) as scores:
        found = compare(scores, "bottle@1", "bottle@2", most=9)
    assert [(image.before, image.after) for image in found.images] == [("pass", "reject")]
    assert len(list(tmp_path.glob("day=*/*.parquet"))) == 2


def test_rows_of_a_version_stay_beside_those_of_a_name_that_begins_alike(tmp_path: Path) -> None:
    write(tmp_path, "aa", row(1, 2, "pass") | {"recipe": "bottle-1"}, row(1, 12, "pass"))
    write(tmp_path, "bb", row(1, 1, "reject"))
    with open_scores(tmp_path) as scores:
        assert list_judges(scores) == ["bottle-1@2", "bottle@1", "bottle@12"]


def test_one_name_of_two_data_folders_is_told_apart_by_digits(tmp_path: Path) -> None:
    other = {"recipe_sha": "ab" * 32}
    write(tmp_path, "aa", row(1, 1, "pass"), row(1, 1, "reject") | other)
    with open_scores(tmp_path) as scores:
        first, second = choose_judges(list_judges(scores), [], no_version_in_force)
        assert (first, second) == ("bottle@1-000000000000", "bottle@1-abababababab")
        assert [(one.before, one.after) for one in compare(scores, first, second, 9).images] == [
            ("pass", "reject")
        ]


def test_a_name_stands_for_its_only_version_or_the_one_in_force() -> None:
    known = ["line", "bottle-side@3", "bottle@1", "bottle@12"]
    assert choose_judges(known, ["line", "bottle@1"], no_version_in_force) == ("line", "bottle@1")
    assert choose_judges(known, ["line", "bottle-side"], no_version_in_force) == ("line", "bottle-side@3")
    assert choose_judges(known, ["bottle", "bottle@1"], lambda name: f"{name}@12") == (
        "bottle@12",
        "bottle@1",
    )
    with pytest.raises(FleetError, match="'bottle@7' is not one of"):
        choose_judges(known, ["bottle", "line"], lambda name: f"{name}@7")
    for wished, says in (
        ([], "more than two"),
        (["bottle@2", "line"], "not one of"),
        (["x", "line"], "not one of"),
    ):
        with pytest.raises(FleetError, match=says):
            choose_judges(known, wished, no_version_in_force)


def test_a_folder_without_scores_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="line-monitor fleet rescore"), open_scores(tmp_path):
        pass
