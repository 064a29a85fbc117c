"""The GPU's proof runs on the CPU to its last line that is not CUDA."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.gpu_proof import Size, compare_ways, measure_growth, measure_overlap
from tests.benchmarks.gpu_tables import EAGER, PLAIN, PRODUCT

TINY = Size(side=32, batch=2, kept=16, frame=(54, 96), seconds=0.0, frames=32, growth_s=5.0)


@pytest.mark.slow
def test_every_way_scores_alike_and_is_timed() -> None:
    rows = compare_ways(TINY, torch.device("cpu"))
    ways = [(row["compared"], row["batch"], row["way"]) for row in rows]
    assert ways == [
        (compared, batch, way)
        for compared in ("student", "memory", "both")
        for batch in (1, 2)
        for way in (EAGER, PLAIN, PRODUCT)
    ]
    assert max(row["scores_apart"] for row in rows) < 1e-4
    assert min(row["ms"] for row in rows) > 0


@pytest.mark.slow
def test_uploads_and_memory_are_measured() -> None:
    plain, product = measure_overlap(TINY, torch.device("cpu"))
    assert plain["upload_ms"] > 0
    assert product["network_ms"] > 0
    growth = measure_growth(TINY, torch.device("cpu"))
    assert growth["frames"] == growth["wanted"]
    assert not growth["grew"]
