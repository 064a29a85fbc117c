"""The demo's parts, and the rule by which it ends with success."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers import simulated
from monitor.commands import demo
from monitor.commands.demo import DemoError, LineResult

SCENE = "bottle-top"


def test_the_drawn_parts_are_good_or_bad_as_asked_and_none_is_on_the_line(tmp_path: Path) -> None:
    demo._draw_parts(SCENE, tmp_path / "good", 2, 0.0)
    demo._draw_parts(SCENE, tmp_path / "bad", 2, 1.0)
    for exposure in range(2):
        good, bad, line = (
            simulated.render(SCENE, seed, exposure, share)
            for seed, share in ((demo._FIRST_SEED, 0.0), (demo._FIRST_SEED, 1.0), (1, 0.0))
        )
        drawn = {kind: cv2.imread(str(tmp_path / kind / f"{exposure:04d}.png")) for kind in ("good", "bad")}
        assert np.array_equal(drawn["good"], good)
        assert np.array_equal(drawn["bad"], bad)
        assert not np.array_equal(good, bad)
        assert not np.array_equal(good, line)


def test_defects_rejected_and_few_good_parts_rejected_is_success() -> None:
    demo._require_success(LineResult(frames=300, defects=40, caught=38, overkills=5), snapshots=38)


@pytest.mark.parametrize(
    ("result", "snapshots", "why"),
    [
        (LineResult(frames=300, defects=40, caught=0), 1, "no defect was rejected"),
        (LineResult(frames=300, defects=40, caught=40), 0, "no snapshot"),
        (LineResult(frames=300, defects=40, caught=37), 37, "only 37 of 40 defects"),
        (LineResult(frames=300, defects=40, caught=40, overkills=6), 40, "6 of 260 good parts"),
    ],
)
def test_too_few_rejected_defects_or_too_many_rejected_good_parts_fail(
    result: LineResult, snapshots: int, why: str
) -> None:
    with pytest.raises(DemoError, match=why):
        demo._require_success(result, snapshots)
