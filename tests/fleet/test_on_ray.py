"""Training and rescoring on a real Ray: `bash deploy/test.sh tests/fleet`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from monitor.model.in_force import Approval, put_in_force
from monitor.verdict import snapshot_path
from tests.benchmarks import fleet_training
from tests.real.parts import part, random_recipe, save

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "monitor.cli", "--config", "line.toml", "fleet", *arguments],
        cwd=folder,
        env=fleet_training.program_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_recipes_outlive_a_node_and_the_driver_and_equal_those_of_train_alone(tmp_path: Path) -> None:
    figures = fleet_training.run(tmp_path, count=6, epochs=60, seconds=900, alone=6)
    assert figures["exit"] == 0
    assert figures["trained"] == figures["equal to train alone"] == 6
    assert figures["begun more than once with the first epoch"] == 0
    assert figures["resumed"] >= 1


def test_an_archive_is_rescored_on_this_machine_alone_and_compared(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_text('[line]\ndata = "data"\n')
    in_force = random_recipe(tmp_path / "data/recipes/disc")
    approval = Approval(who="anna", utc="2026-11-29T09:30:15Z", meaning="approved")
    put_in_force(in_force.folder, 1, approval)
    in_force.with_changes(statement="newer").commit()
    for number in range(13):
        place = tmp_path / "archive" / snapshot_path(1_793_000_000_000_000_000, "top", number + 1, 0.5)
        save(place.with_suffix(".png"), part(number))
        shutil.copy(place.with_suffix(".png"), place)
        record = {"recipe": "disc", "verdict": "uninspected", "labels": [{"label": "defect"}]}
        challenge = {"challenge": "bad-1"} if number == 12 else {}
        place.with_suffix(".json").write_text(json.dumps({**record, **challenge}))
    (tmp_path / "archive/broken.png").write_bytes(b"no image")
    for _ in range(2):
        done = run(tmp_path, "rescore", "disc", "--archive", "archive", "-o", "scores")
        assert done.returncode == 0, done.stderr
        assert "13 images scored by 1 recipes, 1 can't be read, 1 of challenge parts left out" in done.stderr
    files = sorted(file for file in (tmp_path / "scores").rglob("*") if file.is_file())
    assert [file.parent.name for file in files] == ["day=2026-10-26", "day=undated"]
    rows = pyarrow.parquet.read_table(files[0]).to_pylist()
    assert len(rows) == 12
    assert {(row["version"], row["recipe_sha"]) for row in rows} == {(1, in_force.sha)}
    assert {(row["camera"], row["label"], row["line_verdict"]) for row in rows} == {
        ("top", "defect", "uninspected")
    }
    (broken,) = pyarrow.parquet.read_table(files[1]).to_pylist()
    assert (broken["verdict"], broken["reason"], broken["score"]) == ("uninspected", "bad_frame", None)
    assert run(tmp_path, "rescore", "disc@2", "--archive", "archive", "-o", "scores").returncode == 0
    said = run(
        tmp_path, "compare", "scores", "--between", "line", "disc", "--pictures", "page.html", "--json"
    )
    comparison = json.loads(said.stdout)
    assert comparison["after"] == "disc@1"
    assert (comparison["common"], sum(change["defects"] for change in comparison["changes"])) == (12, 12)
    assert (tmp_path / "page.html").read_text().count("<figure>") == 12
