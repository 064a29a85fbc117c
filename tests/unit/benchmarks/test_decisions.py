"""Overkill and escape are counted at the recipes' own thresholds, apart for images that choose nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from drivers import image_file
from tests.benchmarks import decisions
from tests.benchmarks.decisions import (
    CHILD,
    ROOT,
    DecisionError,
    Half,
    Point,
    Settings,
    commit_of,
    find_sets,
    measure_half,
    read_cell,
    run_python,
    table,
)
from tests.benchmarks.decisions_child import test_files as list_test_files
from tests.benchmarks.decisions_child import thresholds
from tests.real.parts import part, random_recipe, save

SETTINGS = Settings("/data/disc", 0, ("--epochs", "1"), "/tree")


def cell(dataset: str = "/data/disc", seed: int = 0, lift: float = 0.0, **more: Any) -> dict[str, Any]:
    """Good parts score 0 to 9, defects of two types 5.5 and more; `lift` is added to every defect."""
    images = [{"type": "good", "position": i, "name": f"{i}.png", "score": float(i)} for i in range(10)]
    for kind in ("crack", "stain"):
        images += [
            {"type": kind, "position": i, "name": f"{i}.png", "score": 5.5 + i + lift} for i in range(4)
        ]
    return {
        "settings": asdict(Settings(dataset, seed, (), "/tree")),
        "images": images,
        "thresholds": {
            "0.01": {"threshold": 8.0, "guarantee": None, "source": "stated"},
            "0.05": {"threshold": 6.0, "guarantee": 0.05, "source": "stated"},
        },
        "teach_seconds": 10.0,
        "ms": 5.0,
        **more,
    }


def columns(line: str) -> list[str]:
    return [text.strip() for text in line.strip("|").split("|")]


def test_each_image_is_in_one_half() -> None:
    choosing, held = measure_half(cell(), Half.CHOOSING), measure_half(cell(), Half.HELD)
    assert (choosing.good, choosing.defective) == (held.good, held.defective) == (5, 4)
    # Good parts 0, 2, 4, 6, 8 choose; defects 5.5 and 7.5, twice.
    assert choosing.points == {"0.01": Point(None, 0, 4), "0.05": Point(0.05, 1, 2)}
    # Good parts 1, 3, 5, 7, 9; defects 6.5 and 8.5, twice.
    assert held.points == {"0.01": Point(None, 1, 2), "0.05": Point(0.05, 2, 0)}
    assert choosing.image_auroc == pytest.approx(14 / 20)
    whole = measure_half(cell(), Half.ALL)
    assert (whole.good, whole.defective) == (10, 8)
    assert whole.points["0.05"] == Point(0.05, 3, 2)


def test_a_score_equal_to_the_threshold_passes() -> None:
    found = measure_half(cell(lift=0.5), Half.CHOOSING)
    assert found.points["0.05"] == Point(0.05, 1, 2)


def test_a_half_without_defects_is_named() -> None:
    good = [image for image in cell()["images"] if image["type"] == "good"]
    with pytest.raises(DecisionError, match="/data/disc: held: no good or no defective"):
        measure_half(cell(images=good), Half.HELD)


def test_the_table_has_the_means_over_seeds_and_over_sets() -> None:
    cells = [cell(), cell(seed=1, lift=10.0, teach_seconds=20.0), cell("/data/ring", lift=10.0)]
    head, _, disc, ring, mean = table(cells, Half.CHOOSING).splitlines()
    assert columns(head)[2:6] == [
        "image AUROC",
        "1 %: guaranteed",
        "1 %: overkill (95 % interval)",
        "1 %: escape",
    ]
    assert columns(disc) == [
        "disc",
        "5 + 4",
        "0.850",
        "-",
        "0.0 % (0.0 to 52.2 %)",
        "0.500",
        "5 %",
        "20.0 % (0.5 to 71.6 %)",
        "0.250",
        "15",
        "5.0",
    ]
    assert columns(ring)[:3] == ["ring", "5 + 4", "1.000"]
    assert columns(mean)[:9] == ["mean", "", "0.925", "", "0.0 %", "0.250", "", "20.0 %", "0.125"]


def test_a_recipes_own_thresholds_come_first_and_the_versions_rule_last() -> None:
    asked = []

    def make(scores: object, rate: float) -> tuple[float, float | None]:
        asked.append((scores, rate))
        return 3.0, None

    in_force = {"overkill": 0.01, "threshold": 1.0, "guaranteed": True, "scores": [0.5]}
    document: dict[str, Any] = {"calibration": {"torch-f32": in_force}}
    found = thresholds(document, (0.01, 0.05), make)
    assert found["0.01"] == {"threshold": 1.0, "guarantee": 0.01, "source": "in force"}
    assert (found["0.05"]["threshold"], found["0.05"]["guarantee"]) == (3.0, None)
    assert asked == [([0.5], 0.05)]
    document["operating_points"] = [
        {"overkill": 0.01, "threshold": 1.5, "guarantee": 0.017},
        {"overkill": 0.05, "threshold": 0.9},
    ]
    stated = thresholds(document, (0.01, 0.05), make)
    assert stated["0.01"] == {"threshold": 1.5, "guarantee": 0.017, "source": "stated"}
    assert (stated["0.05"]["threshold"], stated["0.05"]["guarantee"]) == (0.9, None)
    assert len(asked) == 1


def test_positions_count_within_each_folder_by_name(tmp_path: Path) -> None:
    for name in ("good/b.png", "good/a.png", "crack/z.png", "crack/y.png"):
        save(tmp_path / "test" / name, part(0))
    found = [(kind, at, file.name) for kind, at, file in list_test_files(tmp_path, image_file.find)]
    assert found == [("crack", 0, "y.png"), ("crack", 1, "z.png"), ("good", 0, "a.png"), ("good", 1, "b.png")]


def test_a_cell_that_was_made_with_other_settings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "disc-0.json"
    assert read_cell(file, SETTINGS) is None
    file.write_text(json.dumps(cell(settings=asdict(SETTINGS))))
    assert read_cell(file, SETTINGS) is not None
    with pytest.raises(DecisionError, match=r"made with train_options .*--epochs.*: use another --out"):
        read_cell(file, Settings("/data/disc", 0, (), "/tree"))
    file.write_text("{}")
    with pytest.raises(DecisionError, match="not a cell of this table"):
        read_cell(file, SETTINGS)


@pytest.mark.slow
def test_the_child_scores_with_the_checkouts_program(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r").folder
    for kind in ("good", "crack"):
        save(tmp_path / "set/test" / kind / "0.png", part(0, defect=kind == "crack"))
    settings = Settings(str(tmp_path / "set"), 0, (), str(ROOT))
    arguments = [CHILD, "--checkout", ROOT, "--recipe", recipe, "--dataset", tmp_path / "set"]
    arguments += ["--out", tmp_path / "scored.json", "--rates", 0.01, 0.05]
    run_python(arguments, settings, tmp_path / "log.txt")
    scored = json.loads((tmp_path / "scored.json").read_text())
    assert [(image["type"], image["position"]) for image in scored["images"]] == [("crack", 0), ("good", 0)]
    assert scored["ms"] > 0
    assert scored["thresholds"]["0.01"] == {"threshold": 0.5, "guarantee": None, "source": "in force"}
    assert scored["thresholds"]["0.05"]["threshold"] >= 0.4
    arguments[2] = tmp_path
    with pytest.raises(DecisionError, match=f"set-0: exit 1: .*not the program of {tmp_path}"):
        run_python(arguments, settings, tmp_path / "log.txt")


def test_only_sets_in_the_layout_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("disc/train/good", "disc/test/good", "ring/test/good"):
        (tmp_path / name).mkdir(parents=True)
    assert find_sets(tmp_path) == ["disc"]
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(tmp_path), "--out", "o", "--sets", "ring"])
    with pytest.raises(SystemExit, match="2"):
        decisions.main()


def test_a_tree_without_history_has_an_unknown_commit(tmp_path: Path) -> None:
    assert commit_of(str(tmp_path)) == "unknown"
