"""`bench` measures this machine with the code of a line, and its figures are consistent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from monitor.cli import main
from monitor.commands.bench.scoring import operations


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitor.cli", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_scoring_transport_and_a_whole_line_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench("--seconds", "4", "--size", "64", "--json", str(file), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    ways = [(row["runtime"], row["precision"], row["batch"]) for row in found["scoring"]]
    eager = [("torch", "f32", batch) for batch in (1, 2, 4, 8)]
    assert ways == [*eager, ("openvino", "f32", 1), ("openvino", "int8", 1)]
    for row in found["scoring"]:
        assert row["ms_per_frame"] > 0
        assert row["ratio"] == pytest.approx(row["ms_per_frame"] / row["limit_ms_per_frame"])
    small, *_, large = found["transport"]
    assert large["ms"] > small["ms"] > 0
    assert found["line"]["frames"] >= 3
    assert 0 < found["line"]["p50_ms"] <= found["line"]["p99_ms"]
    for word in ("torch-f32", "openvino-int8", "2448x2048", "capture to publish"):
        assert word in done.stdout


def test_bad_wishes_get_a_line_and_the_fix(capsys: pytest.CaptureFixture[str]) -> None:
    for wish, words in (
        (("--teacher", "resnet99"), "no teacher is called"),
        (("--device", "cuda:77"), "use"),
    ):
        assert main(["bench", *wish]) == 1
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_operations_are_counted_as_in_the_definition() -> None:
    # The convolution has 3x3 taps from 2 channels to 5, at every second pixel of 8x8.
    convolution = nn.Conv2d(2, 5, 3, stride=2, padding=1, bias=False)
    trunk = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), convolution)
    with torch.random.fork_rng():
        assert operations(trunk, 8) == 2 * (3 * 2 * 64 + 9 * 2 * 5 * 16)
