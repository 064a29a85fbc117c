"""A benchmark's figure of memory is the work's own, not that of who asks."""

from __future__ import annotations

import pytest

from tests.benchmarks.memory_peak import peak_of


def hold(megabytes: int) -> None:
    assert len(bytearray(b"x") * (megabytes << 20)) == megabytes << 20


def test_the_peak_is_of_the_work_alone_and_stays_when_the_work_is_done() -> None:
    here = bytearray(b"x") * (400 << 20)
    little, much = peak_of(hold, 1), peak_of(hold, 200)
    assert little < 300
    assert much - little == pytest.approx(199, abs=20)
    assert len(here) == 400 << 20
