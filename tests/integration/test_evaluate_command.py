"""`line-monitor evaluate` gives one category's figures or the paper's table, and names missing recipes."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monitor.cli import main
from tests.real.parts import part, random_recipe, save

Ended = subprocess.CompletedProcess[str]
Run = Callable[..., Ended]


@pytest.fixture
def run(config: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `line-monitor evaluate` in this process, which has loaded torch already."""

    def run_here(*arguments: str | Path) -> Ended:
        code = main(["--config", str(config), "evaluate", *map(str, arguments)])
        out, err = capfd.readouterr()
        return Ended(arguments, code, out, err)

    return run_here


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "line.toml"
    file.write_text(f'[line]\ndata = "{tmp_path}/data"\n')
    random_recipe(tmp_path / "data/recipes/mvtec-bottle", size=32)
    return file


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two categories in MVTec AD's layout and in an archive of its kind."""
    mask = np.zeros((80, 80), np.uint8)
    mask[30:50, 30:50] = 255
    for category in ("bottle", "metal_nut"):
        root = tmp_path / "set" / category
        for number in range(3):
            save(root / "test/good" / f"{number:03d}.png", part(number))
            save(root / "test/scratch" / f"{number:03d}.png", part(10 + number, defect=True))
            save(root / "ground_truth/scratch" / f"{number:03d}_mask.png", mask)
    file = tmp_path / "mvtec_anomaly_detection.tar.xz"
    with tarfile.open(file, "w:xz") as tar:
        for category in ("bottle", "metal_nut"):
            tar.add(tmp_path / "set" / category, category)
    return file


def test_a_category_alone_is_the_contracts_json(tmp_path: Path, run: Run, archive: Path) -> None:
    figures = tmp_path / "figures.json"
    result = run("mvtec-bottle", "--dataset", archive.parent / "set/bottle", "--json", figures)
    assert result.returncode == 0, result.stderr
    content = json.loads(figures.read_text())
    assert content["images"] == 6
    assert content["per_type"]["scratch"]["images"] == 3
    assert {"image_auroc", "pixel_auroc", "pro", "overkill", "escape", "ms_per_image"} <= set(content)
    assert "scratch" in result.stdout


@pytest.mark.slow
def test_the_papers_table_from_the_archive_needs_every_recipe(
    tmp_path: Path, run: Run, archive: Path
) -> None:
    figures = tmp_path / "figures.json"
    partly = run("mvtec", "--dataset", archive, "--json", figures)
    assert partly.returncode == 1
    assert "line-monitor train mvtec-metal-nut --images metal_nut/train/good" in partly.stderr
    assert "Traceback" not in partly.stderr
    assert [row["category"] for row in json.loads(figures.read_text())["categories"]] == ["bottle"]

    random_recipe(tmp_path / "data/recipes/mvtec-metal-nut", size=32, seed=3)
    whole = run("mvtec", "--dataset", archive, "--json", figures)
    assert whole.returncode == 0, whole.stderr
    content = json.loads(figures.read_text())
    assert [row["recipe"] for row in content["categories"]] == ["mvtec-bottle", "mvtec-metal-nut"]
    assert content["mean"]["pro"] == pytest.approx(np.mean([row["pro"] for row in content["categories"]]))
    lines = whole.stdout.splitlines()
    assert lines[0].split()[:3] == ["images", "image_auroc", "paper"]
    assert [line.split()[0] for line in lines[1:4]] == ["bottle", "metal_nut", "mean"]


def test_a_damaged_archive_is_one_line(run: Run, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-500])
    result = run("mvtec-bottle", "--dataset", archive)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("evaluate:")]
    assert line.startswith("line-monitor: ")
    assert "the archive is damaged" in line
    assert result.stdout == ""
