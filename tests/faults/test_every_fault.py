"""With every fault of a plant each part gets one verdict in time, and the line works again afterwards.

This takes minutes: `bash deploy/test.sh tests/faults`. `python -m tests.faults.table` gives the same as a
table. Each run draws new times of the faults. A failed test prints its seed, and `FAULTS_SEED` repeats it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.plant import Plant, Unavailable
from tests.faults.scenario import Fault, moment, run_fault

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Plant]:
    with Plant(tmp_path_factory.mktemp("plant"), trained) as running:
        yield running


@pytest.fixture(scope="module")
def seed() -> int:
    return int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(100_000)))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_part_gets_its_one_verdict_in_time(plant: Plant, fault: Fault, seed: int) -> None:
    print(f"FAULTS_SEED={seed}")
    try:
        outcome = run_fault(plant, fault, before_s=moment(seed, fault))
    except Unavailable as why:
        pytest.skip(f"{fault.name}: {why}")
    assert outcome.wrong == []
    assert outcome.parts > 0
