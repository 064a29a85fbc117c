"""Whatever breaks on a running plant, every part gets its one verdict in time, and the line is whole again.

Takes minutes: `bash deploy/test.sh tests/faults`. The same as a table: `python -m tests.faults.table`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.plant import Plant, Unavailable
from tests.faults.scenario import Fault, endure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Plant]:
    with Plant(tmp_path_factory.mktemp("plant"), trained) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_part_gets_its_one_verdict_in_time(plant: Plant, fault: Fault) -> None:
    try:
        outcome = endure(plant, fault)
    except Unavailable as why:
        pytest.skip(str(why))
    assert outcome.wrong == []
    assert outcome.parts > 0
