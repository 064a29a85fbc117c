"""A fault comes at any moment between camera and gate, and only what was said of it counts as noticing it."""

from __future__ import annotations

from tests.faults.catalogue import FAULTS
from tests.faults.scenario import moment, time_of_report


def test_each_fault_has_a_moment_of_its_own_which_its_seed_repeats() -> None:
    moments = [moment(7, fault) for fault in FAULTS]
    assert moments == [moment(7, fault) for fault in FAULTS]
    assert len(set(moments)) == len(FAULTS)
    assert moment(8, FAULTS[0]) != moments[0]
    # More than the way of a part to the gate.
    assert max(moments) - min(moments) > 1.0


def test_what_a_line_says_long_after_a_fault_is_not_of_it() -> None:
    assert time_of_report(0.1, lasted_s=0.0, recovered_s=0.0) == 0.1
    assert time_of_report(7.5, lasted_s=6.0, recovered_s=2.0) == 7.5
    assert time_of_report(12.1, lasted_s=5.0, recovered_s=0.0) is None
    assert time_of_report(12.1, lasted_s=5.0, recovered_s=None) == 12.1
    assert time_of_report(None, lasted_s=5.0, recovered_s=0.0) is None
