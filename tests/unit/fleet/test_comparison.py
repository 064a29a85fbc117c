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


def row(number: int, version: str, verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "image": f"/a/{number}.png",
        "captured_utc": f"2026-11-{10 + number}T00:00:00.000Z",
        "camera": "top",
        "recipe": "bottle",
        "version": version,
        "score": 0.5,
        "threshold": 0.4,
        "verdict": verdict,
        **more,
    }


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
        row(1, "v1", "pass", **rejected),
        row(2, "v1", "pass", **rejected, label="defect"),
        row(3, "v1", "reject", **rejected),
        row(4, "v1", "pass"),
    )
    with open_scores(tmp_path) as scores:
        before, after = choose_judges(list_judges(scores), [])
        found = compare(scores, before, after, most=1)
    assert (found.before, found.after, found.common) == ("line", "bottle@v1", 3)
    assert [(one.before, one.after, one.images, one.defects) for one in found.changes] == [
        ("reject", "pass", 2, 1)
    ]
    assert [image.image for image in found.images] == ["/a/2.png"]
    text = list(explain_comparison(found))
    assert text[0] == "line -> bottle@v1: 2 of 3 verdicts change"
    assert text[1] == "reject -> pass: 2 (1 of them labelled real defect)"
    assert text[-1] == "  and 1 more: --most N shows more"
    assert "file:///a/2.png" in make_page(found)


def test_a_version_that_is_rescored_takes_the_place_of_its_rows(tmp_path: Path) -> None:
    write(tmp_path, "aa", row(1, "v1", "pass"), row(1, "v2", "pass"))
    write(tmp_path, "bb", row(1, "v2", "reject"))
    with open_scores(tmp_path) as scores:
        found = compare(scores, "bottle@v1", "bottle@v2", most=9)
    assert [(image.before, image.after) for image in found.images] == [("pass", "reject")]
    assert len(list(tmp_path.glob("day=*/*.parquet"))) == 2


def test_two_versions_are_named_by_any_beginning() -> None:
    known = ["line", "bottle@aa11", "bottle@ab22"]
    assert choose_judges(known, ["line", "bottle@aa"]) == ("line", "bottle@aa11")
    for wished, says in (
        ([], "more than two"),
        (["bottle", "line"], "more than one"),
        (["x", "line"], "not one of"),
    ):
        with pytest.raises(FleetError, match=says):
            choose_judges(known, wished)


def test_a_folder_without_scores_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="line-monitor fleet rescore"), open_scores(tmp_path):
        pass
