"""The benchmark of many cameras divides the processor time of the workers, and loses none of it."""

from __future__ import annotations

import pytest

from tests.benchmarks.cost_bars import Bar, draw_bars
from tests.benchmarks.many_cameras import Run, costs, report

RUN = Run(
    seconds={
        "capture": 8.0,
        "scoring": 4.0,
        "publish": 1.0,
        "broker": 0.5,
        "snapshots": 6.0,
        "supervisor": 0.2,
        "review": 0.3,
    },
    took_s=10.0,
    frames=800,
    scored=400,
    uninspected=400,
    snapshots=20,
)


def test_the_parts_add_up_to_what_the_workers_took() -> None:
    found = costs(RUN, of_driver=6.0, of_preparation=2.0)
    assert sum(found.values()) == pytest.approx(1000 * sum(RUN.seconds.values()) / RUN.frames)
    assert found["drivers"] == 6.0
    assert found["transport"] == pytest.approx(4.0)
    # Only half of the frames were prepared.
    assert found["preparation"] == pytest.approx(1.0)


def test_the_largest_is_named_and_drawn_apart() -> None:
    found = costs(RUN, of_driver=2.0, of_preparation=2.0)
    assert "largest: transport" in report(RUN, found, "mono")
    picture = draw_bars("a title", "cores", [Bar(what, ms) for what, ms in found.items()])
    assert picture.count("#c04000") == 1
