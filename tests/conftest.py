"""What every test may use."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.ring import Ring


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    """An empty ring of one camera called `top`."""
    session = uuid.uuid4()
    Ring.create(tmp_path, "top", session)
    opened = Ring(tmp_path, "top", session)
    yield opened
    opened.close()
