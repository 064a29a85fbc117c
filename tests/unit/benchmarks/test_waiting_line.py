"""A scorer of the line that only waits is the product's own, with a wait in place of its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor.inference.scorer import Scorer
from tests.benchmarks.waiting_line import REJECT_EVERY, WAIT_MS, replace_network
from tests.real.parts import part, random_recipe


def test_every_third_frame_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_MS, "1")
    monkeypatch.setenv(REJECT_EVERY, "3")
    # What the benchmark replaces is put back after the test.
    monkeypatch.setattr(Scorer, "_build_network", Scorer._build_network)
    replace_network()
    scorer = Scorer(random_recipe(tmp_path / "plate"), device="cpu", runtime="torch")
    results = scorer.score([part(number) for number in range(6)])
    assert np.sum([result.score > 100 for result in results]) == 2
