"""Heat colours depend on anomaly / threshold alone, and change exactly at the threshold."""

from __future__ import annotations

import numpy as np

from monitor.images.heat_scale import heat_colours


def test_a_colour_does_not_depend_on_the_other_values() -> None:
    same = np.full((4,), 0.7, np.float32)
    alone, _ = heat_colours(same)
    among, _ = heat_colours(np.append(same, np.float32(50)))
    assert np.array_equal(alone[0], among[0])


def test_the_colour_changes_at_the_threshold_exactly() -> None:
    below, at, above = (
        heat_colours(np.array([r], np.float32))[0][0].astype(int) for r in (0.999, 1.0, 1.001)
    )
    assert np.abs(at - below).max() < 5
    assert at[0] > at[2], "cold: more blue than red"
    assert above[2] > above[0], "warm: more red than blue"
    assert np.abs(above - at).max() > 100
