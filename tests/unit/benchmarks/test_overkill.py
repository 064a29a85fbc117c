"""The simulation of overkill finds a promise that is kept, and one that is not."""

from __future__ import annotations

from tests.benchmarks.overkill import MEMORY, SIMULATED, simulate, simulate_memory


def test_scores_of_one_image_a_part_keep_all_promises() -> None:
    found = simulate(SIMULATED[0], 0.05, draws=400, seed=1)
    assert found.kept
    assert found.promised == 0.05


def test_near_copies_of_a_memory_keep_the_promise_together_and_break_it_apart() -> None:
    together, apart = (simulate_memory(scene, 0.05, draws=30, seed=0) for scene in MEMORY[1:])
    assert together.kept
    assert not apart.kept
    assert apart.overkill > 0.99, "each image has its near copy in the memory"


def test_lots_that_count_as_parts_break_the_promise() -> None:
    by_lot, by_part = (simulate(scene, 0.01, draws=200, seed=0) for scene in SIMULATED[4:])
    assert by_lot.kept
    assert not by_part.kept
